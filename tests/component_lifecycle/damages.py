"""Damage of every component: what was changed, what `verify` reports, what `up` does about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """What was `done` on `host`; a failed check of the component has `named` in its name or message."""

    host: str
    component: str
    done: str
    named: str
    repaired: tuple[str, ...]
    follows: tuple[str, ...] = ()
    """What other components then have to do."""

    @property
    def operations(self) -> frozenset[str]:
        """The operations that repair it, and no others may be carried out."""
        return frozenset((*(f"{self.component}: {name}" for name in self.repaired), *self.follows))


SECRET, TOKEN = "/etc/clawd/secrets/console-jwt-secret", "/etc/prometheus/clawd-alerts-token"
JOURNALD = "/etc/systemd/journald.conf.d/10-clawd.conf"
BOARD = "/etc/grafana/clawd-dashboards/clawd-bots.json"
HBA = "/etc/postgresql/15/main/pg_hba.conf"
RULES = "/etc/prometheus/clawd-rules.yml"
POSTGRES = "cd / && runuser -u postgres -- psql -q -d postgres -c"

DAMAGES = (
    Damage(
        "app",
        "base",
        f"rm {JOURNALD}",
        "journal limited",
        (f"Write {JOURNALD}", "Service systemd-journald"),
    ),
    Damage("log", "hardening", "systemctl stop fail2ban", "failed logins", ("Service fail2ban",)),
    Damage(
        "app",
        "hardening",
        "sysctl -qw net.ipv4.conf.all.accept_redirects=1",
        "accept_redirects",
        ("Kernel settings",),
    ),
    Damage("app", "disk", "systemctl disable -q srv-clawd.mount", "at boot", ("Mount /srv/clawd",)),
    Damage(
        "app",
        "firewall",
        "nft add rule inet clawd input tcp dport 9999 accept",
        "rules were changed",
        ("Rules in force",),
    ),
    Damage("log", "firewall", "nft delete table inet clawd", "closed by default", ("Rules in force",)),
    Damage(
        "app",
        "nvidia",
        "systemctl stop nvidia-persistenced",
        "persistence daemon",
        ("Service nvidia-persistenced",),
    ),
    Damage(
        "app",
        "docker",
        "nft delete table inet clawd_docker",
        "guard in force",
        ("Guard before containers",),
    ),
    Damage(
        "log",
        "docker",
        "systemctl stop docker docker.socket",
        "docker.service does not run",
        ("Service docker",),
    ),
    Damage(
        "log", "tls", "systemctl disable -q --now clawd-tls.timer", "every hour", ("Service clawd-tls.timer",)
    ),
    Damage(
        "app",
        "database",
        f"echo 'host all all 0.0.0.0/0 trust' >> {HBA}; pkill -HUP -o -u postgres postgres",
        "only bots may connect",
        (f"Write {HBA}", "Service postgresql"),
    ),
    Damage(
        "app",
        "model",
        "chmod 666 /var/lib/clawd/models/*.gguf",
        "only root may write",
        ("Push",),
        follows=("runtime: Service clawd-engine",),
    ),
    Damage(
        "app",
        "runtime",
        f"chmod 644 {SECRET}",
        "secrets are private",
        (f"Write {SECRET}", "Service clawd-bot"),
    ),
    Damage(
        "log",
        "nginx",
        "echo '# by hand' >> /etc/nginx/nginx.conf",
        "/etc/nginx/nginx.conf",
        ("Write /etc/nginx/nginx.conf", "Service nginx"),
    ),
    Damage(
        "app",
        "exporters",
        f"{POSTGRES} 'REVOKE pg_monitor FROM prometheus'; systemctl stop prometheus-postgres-exporter",
        "database login",
        ("PostgreSQL login prometheus", "Service prometheus-postgres-exporter"),
    ),
    Damage(
        "log",
        "exporters",
        "systemctl stop clawd-gpu-metrics.timer; systemctl stop prometheus-nginx-exporter",
        "gpus are measured",
        ("Service clawd-gpu-metrics.timer", "Service prometheus-nginx-exporter"),
    ),
    Damage(
        "app",
        "prometheus",
        f"sed -i 's/for:.*/for: 1h/' {RULES}",
        "configuration is as declared",
        (f"Write {RULES}", "Service prometheus"),
    ),
    Damage(
        "app",
        "alertmanager",
        f"chmod 644 {TOKEN}",
        "token is private",
        (f"Write {TOKEN}", "Service prometheus-alertmanager"),
    ),
    Damage("app", "grafana", f"echo '{{}}' > {BOARD}", "files are as declared", (f"Write {BOARD}",)),
    Damage(
        "log",
        "elasticsearch",
        "echo '# by hand' >> /etc/elasticsearch/elasticsearch.yml",
        "runs with what is on the disk",
        ("Write /etc/elasticsearch/elasticsearch.yml", "Service elasticsearch"),
    ),
    Damage("log", "logstash", "systemctl stop logstash", "takes lines", ("Service logstash",)),
    Damage("log", "kibana", "systemctl stop kibana", "is available", ("Service kibana",)),
    Damage(
        "app", "filebeat", "systemctl stop filebeat", "filebeat.service does not run", ("Service filebeat",)
    ),
    Damage(
        "log",
        "filebeat",
        "echo '# by hand' >> /etc/filebeat/filebeat.yml",
        "/etc/filebeat/filebeat.yml",
        ("Write /etc/filebeat/filebeat.yml", "Service filebeat"),
    ),
)
