-- What is missing is a table, with the numbers that no row has.
DROP VIEW mqtt_log.gap;

CREATE TABLE mqtt_log.gap (
    -- When the next row came; when the next start came, where there is none.
    at TIMESTAMPTZ NOT NULL,
    broker TEXT NOT NULL,
    boot BIGINT NOT NULL,
    first BIGINT NOT NULL,
    -- Nobody knows what a broker that was killed had in its memory.
    last BIGINT,
    count BIGINT GENERATED ALWAYS AS (last - first + 1) STORED,
    reason TEXT NOT NULL,
    PRIMARY KEY (boot, first)
);

-- Whether everything there will be of this start is here, as rows or gaps.
ALTER TABLE mqtt_log.writer ADD COLUMN is_complete BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE mqtt_log.writer ALTER COLUMN is_complete SET DEFAULT FALSE;

-- Subscriptions, from when to when: until the client unsubscribed or subscribed anew, or its Session
-- ended.
CREATE VIEW mqtt_log.subscription_history AS
SELECT began.client_id, began.topic, began.qos, began.at AS since, ended.at AS until, began.broker
FROM mqtt_log.event AS began
LEFT JOIN LATERAL (
    SELECT at FROM mqtt_log.event AS later
    WHERE client_id = began.client_id AND at >= began.at
      AND (kind IN ('subscribed', 'unsubscribed') AND topic = began.topic
           OR kind = 'session_ended')
      AND (at > began.at OR boot = began.boot AND number > began.number)
    ORDER BY at, number LIMIT 1
) AS ended ON TRUE
WHERE began.kind = 'subscribed';

CREATE OR REPLACE VIEW mqtt_log.subscription AS
SELECT client_id, topic, qos, since, broker
FROM mqtt_log.subscription_history WHERE until IS NULL;

-- Whether a Topic Filter matches a Topic Name; of a Shared Subscription its filter counts.
CREATE FUNCTION mqtt_log.matches(filter TEXT, topic TEXT) RETURNS BOOLEAN
LANGUAGE SQL IMMUTABLE PARALLEL SAFE AS $$
    SELECT NOT (topic LIKE '$%' AND own.filter ~ '^[+#]') AND topic ~ ('^' || CASE
        WHEN own.filter = '#' THEN '.*'
        WHEN own.filter LIKE '%/#' THEN left(levels, -2) || '(/.*)?'
        ELSE levels END || '$')
    FROM (SELECT regexp_replace($1, '^\$share/[^/]*/', '') AS filter) AS own,
    LATERAL (SELECT replace(regexp_replace(own.filter, '([\[\].\\^$*?(){}|])', '\\\1', 'g'),
                            '+', '[^/]*') AS levels) AS pattern
$$;

-- Topics whose publishes are written, and what went through them: an estimate where only some are.
CREATE VIEW mqtt_log.topic AS
SELECT topic, (array_agg(client_id ORDER BY at, number))[1] AS owner,
       min(at) AS first_seen, max(at) AS last_seen,
       count(DISTINCT client_id) AS publishers,
       sum(coalesce(count, 1))::bigint AS publishes,
       sum(bytes * coalesce(count, 1))::bigint AS bytes
FROM mqtt_log.event WHERE kind = 'published' GROUP BY topic;

CREATE OR REPLACE VIEW mqtt_log.client AS
SELECT client_id, min(at) AS first_seen, max(at) AS last_seen,
       count(*) FILTER (WHERE kind = 'connected') AS connections,
       (array_agg(address ORDER BY at DESC, number DESC))[1] AS address,
       (array_agg(user_name ORDER BY at DESC, number DESC))[1] AS user_name
FROM mqtt_log.event WHERE kind IN ('connected', 'disconnected') GROUP BY client_id;
