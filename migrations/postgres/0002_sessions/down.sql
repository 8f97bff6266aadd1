DROP TABLE editions;
DROP TABLE known_networks;
DROP TABLE sessions;
