# shellcheck shell=sh

. deploys/database/scripts/sql.sh
: "${name?}"
sql postgres -v "name=$name" 2>/dev/null <<'SQL' || true
SELECT 'answers=yes';
SELECT 'role=' || concat_ws(',', rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication,
    rolbypassrls, rolconnlimit, (SELECT count(*) FROM pg_auth_members WHERE member = r.oid))
    FROM pg_roles r WHERE rolname = :'name';
SELECT 'verifier=' || split_part(rolpassword, '$', 1) || '$' || split_part(rolpassword, '$', 2) || '|' ||
    encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex') FROM pg_authid WHERE rolname = :'name';
SELECT datname = :'name' AS there FROM pg_database WHERE datname = :'name' \gset
\if :{?there}
\connect :"name"
SELECT 'database=' || concat_ws(',', pg_get_userbyid(datdba), pg_encoding_to_char(encoding),
    has_database_privilege('public', :'name', 'CONNECT'),
    (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'),
    has_schema_privilege('public', 'public', 'USAGE') OR has_schema_privilege('public', 'public', 'CREATE'))
    FROM pg_database WHERE datname = :'name';
\endif
SQL
