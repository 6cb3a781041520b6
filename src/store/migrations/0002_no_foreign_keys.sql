-- Each row of a queue cost PostgreSQL three queries more, to see that bodies are there and that nobody
-- needs them: half of all it did. It looks after them without (DROP_UNNEEDED says how). SQLite checks at
-- next to no cost, and could not drop a constraint without writing its tables anew.
{postgres}ALTER TABLE pointer DROP CONSTRAINT pointer_message_fkey;
{postgres}ALTER TABLE incoming DROP CONSTRAINT incoming_message_fkey;
