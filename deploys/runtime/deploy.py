"""Engine and bot: a release, their settings and secrets, and two units that outlive each other's crash."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import deploy

from deploys.docker.deploy import has_gpu
from deploys.model.deploy import supplied_model
from deploys.model.settings import MODELS_FOLDER, ModelSettings, model_path
from deploys.model.space import require_space
from deploys.ops import accounts, files, push, services, units
from deploys.ops.facts import PathFact
from deploys.runtime import image, prune, users
from deploys.runtime.config import bot_config, engine_config
from deploys.runtime.settings import ContainerSettings, EngineSettings, RuntimeSettings
from deploys.settings import purging, settings_of, supplies
from deploys.supplies import ReleaseArchive
from deploys.tls.deploy import trusted
from deploys.tls.settings import AUTHORITY
from inventory.errors import ArtifactError

RELEASES = "/opt/clawd/releases"
CURRENT = "/opt/clawd/current"
SECRETS = "/etc/clawd/secrets"
ENGINE_CONFIG = "/etc/clawd/engine.json"
BOT_CONFIG = "/etc/clawd/bot.json"
ENGINE_UNIT = "/etc/systemd/system/clawd-engine.service"
CONVERSATIONS = "/var/lib/clawd-bot"
BOT_UNIT = "/etc/systemd/system/clawd-bot.service"

UNPACKED_RATIO = 5
"""A release takes about this many times the space of its compressed archive while it is unpacked."""
IMAGE_RATIO = 14
"""And this many while an image is made of it: unpacked, as a layer, in the engine, and once more the base."""
SOCKET_FOLDER = "/run/clawd-engine"


@dataclass(frozen=True, slots=True)
class Running:
    """What engine and bot are started from: the bot anew when `id` differs, the engine when `engine` does."""

    id: str
    engine: str
    templates: str = "runtime"
    gpu: bool = False


@deploy("Runtime")
def apply() -> None:
    """The engine (when this host serves a model) and the bot, running the supplied release.

    Raises `CapacityError` before anything is sent when the disk is too small.
    """
    settings = settings_of("runtime", RuntimeSettings)
    release = supplied_release()
    for user in ("clawd-engine", "clawd-bot"):
        users.service(user, group="clawd")
    running = _image(release, settings.container) if settings.container else _release(release)
    model = _engine(settings.engine, running) if settings.engine else None
    if model is None:
        units.absent("clawd-engine.service")
        files.absent(ENGINE_CONFIG)
    _bot(settings, running)
    if model:
        # Last: until the bot answers on the new model, the old one may be needed again.
        prune.only(MODELS_FOLDER, {model.rsplit("/", 1)[-1]})


@deploy("Remove runtime")
def remove() -> None:
    """Neither engine nor bot, nor their users. Conversations stay, for root alone to read, unless purged.

    systemd gives them back to the bot's user when there is one again (`StateDirectory`).
    """
    units.absent("clawd-bot.service")
    units.absent("clawd-engine.service")
    image.absent()
    for path in (SOCKET_FOLDER, f"{SOCKET_FOLDER}.attend"):  # kept over the stops of a container
        files.absent(path)
    for path in (BOT_CONFIG, ENGINE_CONFIG, SECRETS, AUTHORITY, "/opt/clawd"):
        files.absent(path)
    if purging():
        files.absent(CONVERSATIONS)
    elif host.get_fact(PathFact, path=CONVERSATIONS).kind == "directory":
        files.directory(CONVERSATIONS, mode="0700")
    for user in ("clawd-bot", "clawd-engine"):
        accounts.absent(user)


def supplied_release() -> ReleaseArchive:
    """The release that the laptop brings. Raises `ArtifactError` when it brings none."""
    release = supplies().release
    if release is None:
        raise ArtifactError(
            "there is no release of clawd-runtime for this host",
            advice="give the host data `supplies` with a `release`, as described in deploys.supplies",
        )
    return release


def _release(release: ReleaseArchive) -> Running:
    path = f"{RELEASES}/{release.id}"
    require_space(path, release.size * UNPACKED_RATIO, "a release of clawd-runtime")
    files.directory(RELEASES)
    push.unpack(release.archive, path, sha256=release.sha256)
    prune.releases(RELEASES, CURRENT, release.id)
    files.link(CURRENT, path)
    return Running(release.id, release.engine_digest or release.id)


def _image(release: ReleaseArchive, container: ContainerSettings) -> Running:
    wanted = image.wanted(release, container)
    path = f"{RELEASES}/{wanted.id}"
    require_space(path, release.size * IMAGE_RATIO, "an image of clawd-runtime")
    files.directory(RELEASES)
    image.made(wanted, RELEASES)
    image.releases(RELEASES, CURRENT, wanted.id)
    files.link(CURRENT, path)
    return Running(wanted.id, wanted.engine_digest, "runtime/docker", container.gpu and has_gpu())


def _engine(engine: EngineSettings, running: Running) -> str:
    """The engine, on its model, whose path is returned.

    It is restarted, and its model loaded again, only when its own part of the release differs.
    """
    model = model_path(supplied_model(ModelSettings(name=engine.model_name)))
    files.put(ENGINE_CONFIG, engine_config(engine, model))
    values = {
        "model_name": engine.model_name,
        "memory_max": engine.memory_max,
        "release": running.engine,
        "gpu": running.gpu,
    }
    _unit(ENGINE_UNIT, values, running.templates)
    services.converge("clawd-engine", inputs="", watch=engine_reads(model), keep=False)
    return model


def _bot(settings: RuntimeSettings, running: Running) -> None:
    names = sorted(settings.credentials)
    for name in names:
        value = settings.credentials[name].get_secret_value()
        files.put(f"{SECRETS}/{name}", value, mode="0600", secret=True)
    if needs_authority(settings):
        trusted(settings.project)
    files.put(BOT_CONFIG, bot_config(settings))
    values = {
        "with_engine": settings.engine is not None,
        "credentials": names,
        "memory_max": settings.memory_max,
        "release": running.id,
    }
    _unit(BOT_UNIT, values, running.templates)
    services.converge(
        "clawd-bot",
        inputs="",
        watch=bot_reads(settings),
        # Release, settings and secrets belong together, and are put back together: `provision.rollback`.
        keep=False,
        ready=probe(settings.port, "/readyz" if settings.engine else "/healthz"),
    )
    prune.only(SECRETS, names)


def needs_authority(settings: RuntimeSettings) -> bool:
    """Whether the bot checks its database by the project's authority, or uploads that to Telegram."""
    uploads = settings.telegram is not None and settings.telegram.upload_certificate == AUTHORITY
    return uploads or AUTHORITY in (settings.database or "")


def _unit(path: str, values: Mapping[str, object], templates: str) -> None:
    name = path.rsplit("/", 1)[-1]
    files.template(
        f"{templates}/{name}", path, values, check="systemd-analyze verify --recursive-errors=no {}"
    )


def engine_reads(model: str) -> tuple[str, ...]:
    """The files that the engine reads when it starts; for the model's, the small record of when it came."""
    return (ENGINE_CONFIG, ENGINE_UNIT, push.record_of(model))


def bot_reads(settings: RuntimeSettings) -> tuple[str, ...]:
    """The files that the bot reads when it starts."""
    return (BOT_CONFIG, BOT_UNIT, *(f"{SECRETS}/{name}" for name in sorted(settings.credentials)))


def probe(port: int, path: str) -> str:
    """A shell command that succeeds when the bot of this host answers `path` with 200."""
    program = f'import urllib.request as u; u.urlopen("http://127.0.0.1:{port}{path}", timeout=5).read()'
    return f"/usr/bin/python3 -c {shlex.quote(program)}"
