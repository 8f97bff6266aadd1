DROP TABLE users;
DROP TABLE auth_api;
