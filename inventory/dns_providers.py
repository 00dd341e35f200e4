"""The DNS providers that lego supports for the challenge DNS-01."""

from __future__ import annotations

from inventory.values import ValueProblem
from inventory.wording import nearest, shown

PROVIDERS = frozenset(
    """
    acme-dns alidns allinkl arvancloud auroradns autodns azure bindman bluecat checkdomain civo clouddns
    cloudflare cloudns cloudxns conoha constellix desec designate digitalocean dnsimple dnsmadeeasy
    dnspod dode domeneshop dreamhost duckdns dyn dynu easydns edgedns epik exec exoscale freemyip gandi
    gandiv5 gcloud gcore glesys godaddy hetzner hostingde hosttech httpreq hurricane hyperone ibmcloud
    iij iijdpf infoblox infomaniak internetbs inwx ionos iwantmyname joker lightsail linode liquidweb
    loopia luadns mydnsjp mythicbeasts namecheap namedotcom namesilo nearlyfreespeech netcup netlify
    nicmanager nifcloud njalla ns1 oraclecloud otc ovh pdns porkbun rackspace regru rfc2136 rimuhosting
    route53 safedns sakuracloud scaleway selectel servercow simply sonic stackpath tencentcloud transip
    variomedia vegadns vercel versio vinyldns vkcloud vscale vultr wedos yandex yandexcloud zoneee
    zonomi
    """.split()  # noqa: SIM905 - a list of this length is easier to read and compare so
)
"""The output of `lego dnshelp` 4.9.1 (Debian 12 and 13), without `manual`, which needs a terminal."""


def check_dns_provider(text: str) -> ValueProblem:
    """Check the code of a DNS provider of lego, or `exec` for a program of the user."""
    if text in PROVIDERS:
        return None
    advice = nearest(text, sorted(PROVIDERS))
    if not advice.startswith("did"):
        advice = "write a code of https://go-acme.github.io/lego/dns, or `exec` with `hook:`"
    return f"lego 4.9 has no DNS provider {shown(text)}", advice
