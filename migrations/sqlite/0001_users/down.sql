DROP TABLE users;

PRAGMA application_id = 0;
