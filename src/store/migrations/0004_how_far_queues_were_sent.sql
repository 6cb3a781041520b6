-- Below sent_below the client may have been sent what is in its queue; NULL while it is connected, and may
-- be sent all of it. It counts under the claim sent_epoch alone: a broker of the version before takes the
-- Session under another one, sends, and leaves both as they are.
ALTER TABLE session ADD COLUMN sent_below BIGINT;
ALTER TABLE session ADD COLUMN sent_epoch {bytes};
