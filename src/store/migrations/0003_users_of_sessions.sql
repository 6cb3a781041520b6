-- Whose a Session is: '=' and the user's name, '-' for those who have proven nothing. What was stored
-- before is nobody's that we know, and NULL.
ALTER TABLE session ADD COLUMN user_name {bytes};
