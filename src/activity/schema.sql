CREATE TABLE mqtt_log.writer (
    boot BIGINT NOT NULL PRIMARY KEY,
    broker TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    -- The last row that it wrote.
    number BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE mqtt_log.event (
    at TIMESTAMPTZ NOT NULL,
    broker TEXT NOT NULL,
    boot BIGINT NOT NULL,
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    client_id TEXT,
    user_name TEXT,
    address TEXT,
    listener TEXT,
    topic TEXT,
    qos SMALLINT,
    reason_code SMALLINT,
    reason TEXT,
    bytes BIGINT,
    preview BYTEA,
    count BIGINT
) PARTITION BY RANGE (at);

CREATE INDEX event_client ON mqtt_log.event (client_id, at);
CREATE INDEX event_topic ON mqtt_log.event (topic, at) WHERE topic IS NOT NULL;

-- Each connection with how it ended. What a broker left open that was killed ended before its next
-- start, nobody knows when.
CREATE VIEW mqtt_log.connection AS
SELECT began.client_id, began.at AS since, coalesce(ended.at, later.since) AS until,
       began.broker, began.boot, began.user_name, began.address, began.listener,
       ended.reason_code, coalesce(ended.reason, later.reason) AS reason
FROM mqtt_log.event AS began
LEFT JOIN LATERAL (
    SELECT at, reason_code, reason FROM mqtt_log.event
    WHERE client_id = began.client_id AND at >= began.at - interval '1 second'
      AND kind = 'disconnected' AND boot = began.boot AND number > began.number
      AND address IS NOT DISTINCT FROM began.address
    ORDER BY number LIMIT 1
) AS ended ON TRUE
LEFT JOIN LATERAL (
    SELECT min(next.since) AS since, 'the broker ended without a word' AS reason
    FROM mqtt_log.writer AS next, mqtt_log.writer AS mine
    WHERE mine.boot = began.boot AND next.broker = mine.broker AND next.since > mine.since
      AND ended.at IS NULL
    HAVING count(*) > 0
) AS later ON TRUE
WHERE began.kind = 'connected';

-- Who is connected now.
CREATE VIEW mqtt_log.connected AS
SELECT client_id, since, broker, user_name, address, listener
FROM mqtt_log.connection WHERE until IS NULL;

-- Clients, from the first to the last of their connections that is kept.
CREATE VIEW mqtt_log.client AS
SELECT client_id, min(at) AS first_seen, max(at) AS last_seen,
       count(*) FILTER (WHERE kind = 'connected') AS connections
FROM mqtt_log.event WHERE kind IN ('connected', 'disconnected') GROUP BY client_id;

-- What each client subscribed to last, and has not unsubscribed from.
CREATE VIEW mqtt_log.subscription AS
SELECT client_id, topic, qos, at AS since, broker FROM (
    SELECT DISTINCT ON (client_id, topic) client_id, topic, qos, at, broker, kind
    FROM mqtt_log.event WHERE kind IN ('subscribed', 'unsubscribed')
    ORDER BY client_id, topic, at DESC, number DESC
) AS newest WHERE kind = 'subscribed';

-- Clients that connected again and again within the last hour.
CREATE VIEW mqtt_log.flapping AS
SELECT client_id, count(*) AS connections, max(at) AS last_seen
FROM mqtt_log.event
WHERE kind = 'connected' AND at > now() - interval '1 hour'
GROUP BY client_id HAVING count(*) >= 5;

-- Rows that were not written because the database was not to be had for too long.
CREATE VIEW mqtt_log.gap AS
SELECT at, broker, count FROM mqtt_log.event WHERE kind = 'dropped';
