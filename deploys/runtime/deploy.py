"""Engine and bot: a release, their settings and secrets, and two units that survive each other's crashes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyinfra import host
from pyinfra.api import deploy

from deploys.artifacts import ReleaseArchive
from deploys.model.deploy import supplied_model
from deploys.model.settings import ModelSettings, model_path
from deploys.model.space import require_space
from deploys.nvidia.choice import engine_cuda
from deploys.nvidia.cuda import Cuda
from deploys.nvidia.detect import machine
from deploys.nvidia.settings import LIBRARIES
from deploys.ops import accounts, services, units
from deploys.ops.facts import PathFact
from deploys.ops.paths import data, files, push
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.runtime import further_engines, journal, last_good, prune, users
from deploys.runtime.config import (
    ACCESS,
    POLICY,
    ROUTES,
    access_table,
    bot_config,
    engine_config,
    route_table,
)
from deploys.runtime.container import image
from deploys.runtime.settings import (
    ENGINE_STATES,
    INTERNAL,
    ContainerSettings,
    EngineSettings,
    RuntimeSettings,
)
from deploys.settings import purging, settings_of, supplies
from deploys.tls.deploy import internal, trusted
from deploys.topology.certificates import AUTHORITY, INTERNAL_BOT
from deploys.topology.engines import MODELS_FOLDER
from inventory.errors import ArtifactError
from inventory.policy_files.assembly import assembled

RELEASES = "/opt/clawd/releases"
CURRENT = "/opt/clawd/current"
SECRETS = "/etc/clawd/secrets"
ENGINE_CONFIG = "/etc/clawd/engine.json"
BOT_CONFIG = "/etc/clawd/bot.json"
ENGINE_UNIT = "/etc/systemd/system/clawd-engine.service"
CONVERSATIONS = "/var/lib/clawd-bot"
DATABASE_FILES = tuple(f"{CONVERSATIONS}/bot.db{part}" for part in ("", "-wal", "-shm"))
BOT_UNIT = "/etc/systemd/system/clawd-bot.service"
INTERNAL_CREDENTIALS = {
    "internal-certificate": f"{INTERNAL}/fullchain.pem",
    "internal-key": f"{INTERNAL}/privkey.pem",
    "internal-authority": f"{INTERNAL}/ca.pem",
}
"""Credentials of the bot that are not files in `SECRETS`."""

UNPACKED_RATIO = 5
"""Space for unpacking a release, as a multiple of its compressed archive, approximately."""
IMAGE_RATIO = 14
"""The same for building an image: unpacked, as a layer, in the engine, and the base once more."""
LIBRARIES_RATIO = 3
"""Copies of CUDA's libraries while a base is built with them: the files, as a layer, and in the engine."""
SOCKET_FOLDER = "/run/clawd-engine"


@dataclass(frozen=True, slots=True)
class Running:
    """The release that runs: the bot is restarted when `id` differs, the engine when `engine` does.

    `cuda` is the folder of the libraries with which the engine computes on GPUs; empty where it does not.
    """

    id: str
    engine: str
    templates: str = "runtime"
    cuda: str = ""


@deploy("Runtime")
def apply() -> None:
    """Install the engine (where this host serves a model) and the bot, running the supplied release.

    Raises `CapacityError` before anything is sent when the disk is too small.
    """
    settings = settings_of("runtime", RuntimeSettings)
    release = supplied_release()
    for user in ("clawd-engine", "clawd-bot"):
        users.service(user, group="clawd")
    cuda, libraries = _cuda(settings.engine)
    if settings.container:
        running = _image(release, settings.container, cuda.libraries if cuda else ())
    else:
        running = _release(release)
    running = replace(running, cuda=libraries)
    if settings.engine and not settings.container:
        further_engines.in_slice(several=bool(settings.further))
    model = _engine(settings.engine, running) if settings.engine else None
    if model is None:
        units.absent("clawd-engine.service")
        files.absent(ENGINE_STATES)
        files.absent(ENGINE_CONFIG)
    further_models = [
        further_engines.served(name, engine, running.engine) for name, engine in settings.further.items()
    ]
    _bot(settings, running)
    further_engines.only(settings.further)
    if model:
        # Last: until the bot answers with the new model, the old one may be needed; if a run can roll back,
        # until the other hosts of the batch have come up as well.
        used = {path.rsplit("/", 1)[-1] for path in (model, *further_models)}
        prune.only(MODELS_FOLDER, used, aside=bool(host.data.get("goes_back")))


@removal("runtime")
def remove() -> None:
    """Remove engine, bot, and their users. Keep conversations, readable only by root, unless purging.

    systemd returns them to the bot's user when it exists again (`StateDirectory`).
    """
    units.absent("clawd-bot.service")
    units.absent("clawd-engine.service")
    files.absent(ENGINE_STATES)
    further_engines.absent()
    last_good.forgotten()
    journal.absent()
    image.absent()
    for path in (SOCKET_FOLDER, f"{SOCKET_FOLDER}.supervisor"):  # kept when the container stops
        files.absent(path)
    for path in (
        BOT_CONFIG,
        ACCESS,
        POLICY,
        ENGINE_CONFIG,
        ROUTES,
        SECRETS,
        AUTHORITY,
        INTERNAL,
        f"{INTERNAL}.d",
        "/opt/clawd",
    ):
        files.absent(path)
    if not purging() and host.get_fact(PathFact, path=CONVERSATIONS).kind == "directory":
        files.directory(CONVERSATIONS, mode="0700")
    data.kept_or_purged("runtime", {CONVERSATIONS: "conversations"})
    for user in ("clawd-bot", "clawd-engine"):
        accounts.absent(user)


def supplied_release() -> ReleaseArchive:
    """Return the release among the laptop's supplies. Raises `ArtifactError` when there is none."""
    release = supplies().release
    if release is None:
        raise ArtifactError(
            "there is no release of clawd-runtime for this host",
            advice="give the host data `supplies` with a `release`, as described in deploys.artifacts",
        )
    return release


def _cuda(engine: EngineSettings | None) -> tuple[Cuda | None, str]:
    """Return the CUDA of the engine on the current host and its library folder; nothing without a GPU."""
    if engine is None or engine.gpu is None:
        return None, ""
    found = machine(engine.gpu.root)
    if not found.gpus:
        return None, ""
    cuda = engine_cuda(host.name, found, engine.gpu.branch, engine.gpu.cuda)
    return cuda, cuda.library_path(found.architecture)


def _release(release: ReleaseArchive) -> Running:
    path = f"{RELEASES}/{release.id}"
    require_space(path, release.size * UNPACKED_RATIO, "a release of clawd-runtime")
    files.directory(RELEASES)
    push.unpack(release.archive, path, sha256=release.sha256, content=release.content)
    prune.releases(RELEASES, CURRENT, release.id)
    files.link(CURRENT, path)
    return Running(release.id, release.engine_digest or release.id)


def _image(release: ReleaseArchive, container: ContainerSettings, libraries: tuple[str, ...]) -> Running:
    wanted = image.wanted(release, container, libraries)
    path = f"{RELEASES}/{wanted.id}"
    size = release.size * IMAGE_RATIO + (LIBRARIES * LIBRARIES_RATIO if libraries else 0)
    require_space(path, size, "an image of clawd-runtime")
    files.directory(RELEASES)
    image.made(wanted, RELEASES)
    image.releases(RELEASES, CURRENT, wanted.id)
    files.link(CURRENT, path)
    return Running(wanted.id, wanted.engine_digest, "runtime/docker")


def _engine(engine: EngineSettings, running: Running) -> str:
    """Install the engine with its model, and return the path of the model.

    The engine is restarted, and loads its model again, only when its own part of the release differs.
    """
    model = model_path(supplied_model(ModelSettings(name=engine.model_name)))
    files.put(ENGINE_CONFIG, engine_config(engine, model, has_gpu=bool(running.cuda)))
    values = {
        "model_name": engine.model_name,
        "memory_max": engine.memory_max,
        "release": running.engine,
        "cuda": running.cuda,
        "config": ENGINE_CONFIG,
        "folder": SOCKET_FOLDER.removeprefix("/run/"),
    }
    _unit(ENGINE_UNIT, values, running.templates)
    services.converge(Service("clawd-engine", watch=engine_reads(model), keep=False))
    return model


def _bot(settings: RuntimeSettings, running: Running) -> None:
    names = sorted(settings.credentials)
    for name in names:
        value = settings.credentials[name].get_secret_value()
        files.put(f"{SECRETS}/{name}", value, mode="0600", secret=True)
    if needs_authority(settings):
        trusted(settings.project)
    if settings.internal:
        # Owned by root: systemd passes the files to the bot.
        internal(INTERNAL, settings.project, (INTERNAL_BOT, settings.internal.name), owner="root")
    if settings.policy:
        # Read by the bot while it runs, so no change of it restarts the bot.
        files.put(POLICY, assembled(settings.policy).text())
    # Before the settings that name it. Like the routes, not among the files that `services.converge` watches:
    # the bot reads both while it runs.
    files.put(ACCESS, access_table(settings))
    files.put(BOT_CONFIG, bot_config(settings))
    files.put(ROUTES, route_table(settings))
    values = {
        "with_engine": settings.engine is not None,
        "credentials": credential_files(settings),
        "memory_max": settings.memory_max,
        "release": running.id,
        "journal": journal.NAMESPACE,
    }
    journal.limited()
    _unit(BOT_UNIT, values, running.templates)
    if settings.database is None:
        # systemd sets the folder's mode when the bot starts, the bot that of a new file; neither does later.
        modes = {CONVERSATIONS: "0700", **dict.fromkeys(DATABASE_FILES, "0600")}
        files.kept_private(modes, owner="clawd-bot")
    services.converge(
        Service(
            "clawd-bot",
            watch=bot_reads(settings),
            # Release, settings and secrets are restored together: `provision.rollout.rollback`.
            keep=False,
            ready=probe(settings.port, "/readyz" if settings.engine else "/healthz"),
        )
    )
    prune.only(SECRETS, names)
    if not settings.policy:
        files.absent(POLICY)
    if settings.internal is None:
        files.absent(INTERNAL)
        files.absent(f"{INTERNAL}.d")


def needs_authority(settings: RuntimeSettings) -> bool:
    """Return whether the bot checks its database by the project's authority or uploads that to Telegram."""
    uploads = settings.telegram is not None and settings.telegram.upload_certificate == AUTHORITY
    return uploads or AUTHORITY in (settings.database or "")


def _unit(path: str, values: Mapping[str, object], templates: str) -> None:
    name = path.rsplit("/", 1)[-1]
    files.template(
        f"{templates}/{name}", path, values, check="systemd-analyze verify --recursive-errors=no {}"
    )


def engine_reads(model: str) -> tuple[str, ...]:
    """Return the files that the engine reads at its start; for the model, the small record of its arrival."""
    return (ENGINE_CONFIG, ENGINE_UNIT, push.record_of(model))


def bot_reads(settings: RuntimeSettings) -> tuple[str, ...]:
    """Return the files that the bot reads at its start."""
    return (BOT_CONFIG, BOT_UNIT, *credential_files(settings).values())


def credential_files(settings: RuntimeSettings) -> dict[str, str]:
    """Return the file of every credential that systemd passes to the bot, by the name of the credential."""
    secrets = {name: f"{SECRETS}/{name}" for name in sorted(settings.credentials)}
    return {**secrets, **(INTERNAL_CREDENTIALS if settings.internal else {})}


def probe(port: int, path: str) -> str:
    """Return a shell command that succeeds when the bot of this host answers `path` with 200."""
    program = f'import urllib.request as u; u.urlopen("http://127.0.0.1:{port}{path}", timeout=5).read()'
    return f"/usr/bin/python3 -c {shlex.quote(program)}"
