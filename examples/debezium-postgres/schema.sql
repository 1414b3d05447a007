-- What the shop's help pages are written in. Debezium needs a publication of the table and nothing else of it.
CREATE TABLE docs (
    id      bigint PRIMARY KEY,
    title   text NOT NULL,
    body    text NOT NULL,
    lang    text,
    updated timestamptz NOT NULL DEFAULT now()
);
-- PostgreSQL moves large values out of the row, and would compress this example's out of being large.
ALTER TABLE docs ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE PUBLICATION docs FOR TABLE docs;
