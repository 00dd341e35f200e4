# Print the status of the bot's internal port (arguments PORT, FOLDER, and a folder with a certificate or "").

import http.client
import ssl
import sys

port, folder, certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/ca.pem")
context.check_hostname = False
if certificate:
    context.load_cert_chain(certificate + "/fullchain.pem", certificate + "/privkey.pem")
connection = http.client.HTTPSConnection("127.0.0.1", int(port), timeout=10, context=context)
try:
    connection.request("GET", "/healthz")
    print(connection.getresponse().status)
except (ssl.SSLError, ConnectionError):
    print("refused")
