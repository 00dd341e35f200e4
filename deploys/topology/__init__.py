"""The deployment as a whole: which host is what to which other host. Pure functions of the inventory.

    bots.py          which bots are behind which nginx, where it reaches them, and where they are drained
    monitoring.py    who scrapes whom, at which port and over TLS or not, and which bots announce alerts
    database.py      which host has PostgreSQL, which hosts connect to it, and by which URL
    logs.py          which hosts keep log lines, and by which URLs they are reached
    engines.py       which hosts serve a model themselves, and on which processors
    containers.py    which hosts run containers, and which have Docker
    certificates.py  where certificates of the project's authority are on hosts, and names in them
    addresses.py     addresses in the form of URLs and certificates

Components import these, and these import none of the components.
"""
