-- One life of one broker. `number` is never given twice.
CREATE TABLE broker (
    owner {bytes} NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    is_dead SMALLINT NOT NULL DEFAULT 0,
    since BIGINT NOT NULL
);

-- A single row: the era, what tells it from the next one, and the numbers given to brokers.
CREATE TABLE cluster (
    one SMALLINT NOT NULL PRIMARY KEY CHECK (one = 1),
    era BIGINT NOT NULL,
    root BIGINT,
    numbers BIGINT NOT NULL
);
INSERT INTO cluster (one, era, root, numbers) VALUES (1, 0, NULL, 0);

-- owner and epoch are the fence: whoever writes what belongs to a session must be both.
-- A key is the text itself, or the beginning and a digest of one that is too long for an index; the
-- text stands beside it only then.
CREATE TABLE session (
    uid {key},
    client_key {bytes} NOT NULL UNIQUE,
    client_id TEXT,
    slot SMALLINT NOT NULL,
    owner {bytes} NOT NULL,
    epoch {bytes} NOT NULL,
    expiry_interval BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX session_by_owner ON session (owner, uid);
CREATE INDEX session_by_expiry ON session (expires_at) WHERE expires_at IS NOT NULL;

-- Sessions that are over and whose belongings are not yet all removed.
CREATE TABLE ended_session (uid {key});

CREATE TABLE subscription (
    session BIGINT NOT NULL,
    filter_key {bytes} NOT NULL,
    filter TEXT,
    options SMALLINT NOT NULL,
    subscription_id BIGINT,
    PRIMARY KEY (session, filter_key)
) {clustered};

-- An application message, once, whoever waits for it.
CREATE TABLE message (
    id {key},
    publisher BIGINT NOT NULL,
    flags SMALLINT NOT NULL,
    expires_at BIGINT,
    topic TEXT NOT NULL,
    properties {bytes},
    payload {bytes} NOT NULL
);
CREATE INDEX message_by_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;

-- A place in the queue of a session. state: 0 waiting, 1 released, 2 done and kept in mind because
-- the message may come again; repeat_key is the id of such a message.
CREATE TABLE pointer (
    session BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    message BIGINT REFERENCES message (id),
    flags SMALLINT NOT NULL,
    state SMALLINT NOT NULL DEFAULT 0,
    repeat_key BIGINT,
    done_at BIGINT,
    tag {bytes},
    PRIMARY KEY (session, sequence)
) {clustered};
CREATE INDEX pointer_by_message ON pointer (message);
CREATE UNIQUE INDEX pointer_by_repeat ON pointer (session, repeat_key) WHERE repeat_key IS NOT NULL;
CREATE INDEX pointer_by_done ON pointer (done_at) WHERE done_at IS NOT NULL;

-- A QoS 2 message that a client sent and has not released. state: 0 routing, 1 routed.
CREATE TABLE incoming (
    session BIGINT NOT NULL,
    packet_id INTEGER NOT NULL,
    message_id BIGINT NOT NULL,
    message BIGINT REFERENCES message (id),
    state SMALLINT NOT NULL DEFAULT 0,
    PRIMARY KEY (session, packet_id)
) {clustered};
CREATE INDEX incoming_by_message ON incoming (message);

CREATE TABLE will (
    session {key},
    delay BIGINT NOT NULL,
    fires_at BIGINT,
    id BIGINT NOT NULL,
    publisher BIGINT NOT NULL,
    flags SMALLINT NOT NULL,
    expires_at BIGINT,
    topic TEXT NOT NULL,
    properties {bytes},
    payload {bytes} NOT NULL
);
CREATE INDEX will_by_time ON will (fires_at) WHERE fires_at IS NOT NULL;

-- The retained message of a topic. Without a payload it was deleted, at deleted_at.
CREATE TABLE retained (
    topic_key {bytes} NOT NULL PRIMARY KEY,
    version {bytes} NOT NULL,
    deleted_at BIGINT,
    id BIGINT NOT NULL,
    publisher BIGINT NOT NULL,
    flags SMALLINT NOT NULL,
    expires_at BIGINT,
    topic TEXT NOT NULL,
    properties {bytes},
    payload {bytes}
);
CREATE INDEX retained_by_expiry ON retained (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX retained_by_deletion ON retained (deleted_at) WHERE deleted_at IS NOT NULL;

-- How far a broker has received the stream of another.
CREATE TABLE receive_cursor (
    receiver {bytes} NOT NULL,
    origin {bytes} NOT NULL,
    stream SMALLINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (receiver, origin, stream)
) {clustered};
