# Print the table of routes as the bot uses it, as JSON (argument PORT).

import sys
import urllib.request

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/routes", timeout=10) as answer:
    print(answer.read().decode())
