#!/bin/sh
# Run once, when the database is created: the role that Grafana reads with, and its password.
# What the role may read is granted by `bbbmeter migrate`.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/reader_password`
CREATE ROLE bbbmeter_reader LOGIN PASSWORD :'password';
-- Only a superuser can set this: a query of a dashboard cannot fill the disk (docs/threat-model.md).
ALTER ROLE bbbmeter_reader SET temp_file_limit = '2GB';
SQL
