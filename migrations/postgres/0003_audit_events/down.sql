DROP TABLE audit_anchor;
DROP TABLE audit_erasures;
DROP TABLE audit_events;
