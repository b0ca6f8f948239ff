"""Settings: what is wrong, in which field, and what to do; never a secret."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from agent.policy import NOT_PRODUCTION
from api.config import (
    AuditEntry,
    BackupsEntry,
    Config,
    TargetEntry,
    TokenEntry,
)
from api.gate_config import PagesEntry, PolicyEntry, WindowEntry
from api.http_config import HttpEntry
from api.intake_config import IntakeEntry
from api.model_settings import ModelEntry, where
from api.notifications_config import RouteEntry
from api.retention_config import RetentionEntry
from api.settings import ENVIRONMENT, Settings, SettingsError, load_settings
from api.sizing_config import PrometheusEntry, WatchEntry
from api.source_config import SourceEntry

SHA = "a" * 64
ENTRIES: dict[str, type[BaseModel]] = {
    "targets": TargetEntry, "tokens": TokenEntry, "sources": SourceEntry, "policy": PolicyEntry,
    "model": ModelEntry, "backups": BackupsEntry, "freezes": WindowEntry,
    "maintenance": WindowEntry, "pages": PagesEntry, "audit": AuditEntry,
    "watch": WatchEntry, "prometheus": PrometheusEntry, "intake": IntakeEntry, "http": HttpEntry,
    "retention": RetentionEntry, "notifications": RouteEntry,
}  # fmt: skip


def names_of(entry: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in entry.model_fields.items()]


def load(tmp_path: Path, config: object = None, **environment: str) -> Settings:
    if config is not None:
        path = tmp_path / "oncall.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        environment["REDIS_ONCALL_CONFIG"] = str(path)
    return load_settings({"HOME": str(tmp_path), "REDIS_ONCALL_DATA": str(tmp_path)} | environment)


def test_without_any_setting_it_runs_on_this_machine_with_the_rules(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.host == "127.0.0.1"
    assert settings.shown_database == f"sqlite:///{tmp_path}/redis-oncall.db".replace(
        "sqlite:", "sqlite+aiosqlite:"
    )
    assert settings.queue.get_secret_value() == "memory://"
    assert settings.openai_model == ""
    assert settings.agent_targets() == []


def test_a_key_alone_does_not_switch_the_model_on(tmp_path: Path) -> None:
    from api.reasoning import language_model

    alone = load(tmp_path, OPENAI_API_KEY="sk-secret", OPENAI_BASE_URL="http://127.0.0.1:1")
    assert language_model(alone) is None
    named = load(tmp_path, OPENAI_API_KEY="sk-secret", OPENAI_MODEL="m")
    model = language_model(named)
    assert model is not None
    assert model.name == "openai:m"
    assert "sk-secret" not in repr(named) + str(named)


def test_targets_are_filled_from_the_environment_and_hide_their_passwords(tmp_path: Path) -> None:
    target = {
        "name": "cache", "url": "redis://u:${CACHE_PASSWORD}@h:1/0", "memory_limit": "512mb",
        "remedy_url": "rediss://w:${CACHE_PASSWORD}@h:1/0", "match": {"instance": "cache"},
    }  # fmt: skip
    settings = load(tmp_path, {"targets": [target]}, CACHE_PASSWORD="s3cret")
    (cache,) = settings.agent_targets()
    assert cache.url == "redis://u:s3cret@h:1/0"
    assert cache.remedy_url == "rediss://w:s3cret@h:1/0"
    assert cache.memory_limit == 512 * 1024**2
    assert cache.environment == "production"
    assert "s3cret" not in repr(settings) + str(settings) + repr(cache)


BAD = [
    ({"targets": [{"name": "c", "url": "redis://${NOPE}@h"}]}, ["targets.0.url", "NOPE", "set it"]),
    ({"targets": [{"name": "c", "url": "http://u:s3cret@h"}]}, ["targets.0.url", "redis://"]),
    ({"targets": [{"name": "c", "url": "redis://u:s3cret/x@h"}]}, ["targets.0.url", "%2F"]),
    ({"targets": [{"name": "c"}]}, ["targets.0.url", "required"]),
    ({"targets": [{"name": "c", "url": "redis://h", "memory_limit": "lots"}]},
     ["targets.0.memory_limit", "512mb"]),
    ({"targets": [{"name": "c", "url": "redis://h"}] * 2}, ["targets", "c is used twice"]),
    ({"targets": [{"name": "a b", "url": "redis://h"}]}, ["targets.0.name"]),
    ({"tokens": [{"name": "a", "role": "god", "sha256": SHA}]}, ["tokens.0.role"]),
    ({"tokens": [{"name": "a", "role": "admin", "sha256": "s3cret"}]}, ["tokens.0.sha256"]),
    ({"tokns": []}, ["tokns"]),
    ({"targets": 5}, ["targets"]),
    ("- a\n- b", ["mapping"]),
    ("a: [", ["YAML", "line"]),
]  # fmt: skip


@pytest.mark.parametrize(("config", "told"), BAD)
def test_a_mistake_in_the_file_names_the_field(
    tmp_path: Path, config: object, told: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, config)
    message = str(caught.value)
    assert [word for word in told if word not in message] == []
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:s3cret@h/d"),
        ("DATABASE_URL", "s3cret"),
        ("DATABASE_URL", "sqlite://"),
        ("REDIS_ONCALL_QUEUE", "amqp://u:s3cret@h"),
        ("REDIS_ONCALL_QUEUE", "redis://u:s3cret/x@h:1/0"),
        ("REDIS_ONCALL_PORT", "s3cret"),
        ("REDIS_ONCALL_WORKERS", "0"),
        ("REDIS_ONCALL_KEY", "s3cret"),
        ("REDIS_ONCALL_CONFIG", "/nowhere/at/all.yaml"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        load(tmp_path, **{name: value})
    assert "s3cret" not in str(caught.value)


def test_passwords_of_database_and_queue_are_not_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path, DATABASE_URL="postgres://u:s3cret@h/d", REDIS_ONCALL_QUEUE="redis://:s3cret@h/0"
    )
    shown = settings.shown_database + settings.shown_queue + repr(settings)
    assert "s3cret" not in shown
    query = load(tmp_path, DATABASE_URL="postgresql://u@h/d?password=s3cret")
    assert "s3cret" not in query.shown_database
    assert settings.shown_database.startswith("postgresql+psycopg://")


def test_runbook_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, {"runbooks": ["ours", "/abs"]})
    assert settings.runbooks == [tmp_path / "ours", Path("/abs")]


def test_the_readme_has_every_variable_and_every_key() -> None:
    """The settings' tables of api/README.md, and what is really read: no more and no less."""
    readme = Path("api/README.md").read_text()
    tables, _, _ = readme.partition("\n## Policy")
    rows = set(re.findall(r"^\| `([^`]+)` \|", tables, re.MULTILINE))
    variables = {name for name in rows if name.isupper()}
    assert variables == {*ENVIRONMENT.values(), "REDIS_ONCALL_CONFIG", "REDIS_ONCALL_DATA"}
    keys = {
        f"{section}.{name}" if section in ENTRIES else section
        for section in Config.model_fields
        for name in (names_of(ENTRIES[section]) if section in ENTRIES else [section])
    }
    assert rows - variables == keys
    told = [f"default port {Settings.model_fields['port'].default}", *sorted(NOT_PRODUCTION)]
    assert [words for words in told if words not in readme] == []


PRICE = {"input": 1, "output": 2, "source": "https://provider.example", "date": "2026-11-25"}


def test_the_readme_states_the_caps_as_they_are() -> None:
    usual = ModelEntry()
    rows = re.findall(
        r"^\| `model\.(per_\w+)` \| `(\{.+?\})`", Path("api/README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 3
    for name, told in rows:
        caps = getattr(usual, name).model_dump(exclude_none=True)
        assert yaml.safe_load(told) == caps


def test_caps_and_prices_reach_the_model_and_its_ledger(tmp_path: Path) -> None:
    from api.reasoning import language_model

    config = {
        "model": {
            "per_incident": {"tokens": 9_000, "dollars": 0.1},
            "per_day": {"dollars": 2},
            "prices": {"m": PRICE},
        }
    }
    settings = load(tmp_path, config, OPENAI_MODEL="m")
    model = language_model(settings)
    assert model is not None
    told = model.settings
    assert (told.max_tokens, told.max_dollars, told.max_calls) == (9_000, 0.1, 6)
    assert (told.day.dollars, told.day.calls) == (2.0, 600)
    assert told.price is not None
    assert told.price.read_on == date(2026, 11, 25)
    assert settings.config.model.day() == told.day


@pytest.mark.parametrize("cap", ["per_incident", "per_day"])
def test_dollars_cannot_be_capped_without_a_price(tmp_path: Path, cap: str) -> None:
    config = {"model": {cap: {"dollars": 2}, "prices": {"another": PRICE}}}
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, config, OPENAI_MODEL="m")
    assert str(refused.value).startswith(f"model.{cap}.dollars: m has no price")
    assert "model.prices" in str(refused.value)
    load(tmp_path, config)  # without a model there is nothing to count


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"per_day": {"dollars": 0}}, "model.per_day.dollars"),
        ({"per_day": {"dollars": float("nan")}}, "model.per_day.dollars"),
        ({"per_incident": {"calls": 0}}, "model.per_incident.calls"),
        ({"per_incident": {"minutes": 1}}, "model.per_incident.minutes"),
        ({"prices": {"m": {"input": 1, "output": 2}}}, "model.prices.m.source"),
        ({"prices": {"m": PRICE | {"date": "lately"}}}, "model.prices.m.date"),
        ({"prices": {"m": PRICE | {"input": -1}}}, "model.prices.m.input"),
    ],
)
def test_a_cap_or_price_that_cannot_be_used_is_named(
    tmp_path: Path, model: object, field: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(field)):
        load(tmp_path, {"model": model})


def test_how_the_model_is_asked_reaches_its_client(tmp_path: Path) -> None:
    from api.reasoning import language_model

    config = {
        "model": {
            "headers": {"X-Gateway": "${GATEWAY_KEY}"},
            "options": {"temperature": 0},
            "context_window": 8_192,
            "per_call": {"idle_seconds": 4},
        }
    }
    model = language_model(
        load(
            tmp_path,
            config,
            OPENAI_MODEL="m",
            OPENAI_BASE_URL="https://llm.example/v1",
            OPENAI_API_VERSION="2024-10-21",
            https_proxy="proxy.example:3128",
            GATEWAY_KEY="s3cret-of-the-gateway",
        )
    )
    assert model is not None
    told = model.settings
    assert told.headers == {"X-Gateway": "s3cret-of-the-gateway"}
    assert told.options == {"temperature": 0}
    assert (told.context_window, told.idle_seconds) == (8_192, 4)
    assert (told.api_version, told.proxy) == ("2024-10-21", "http://proxy.example:3128")
    assert "s3cret" not in repr(model.settings)


@pytest.mark.parametrize(
    ("base_url", "no_proxy", "proxied"),
    [
        ("https://llm.example/v1", "", True),
        ("", "", True),
        ("https://llm.example/v1", "other.example", True),
        ("https://llm.example/v1", "llm.example", False),
        ("https://llm.example/v1", ".example, x", False),
        ("https://llm.example/v1", "*", False),
        ("https://notexample/v1", "example", True),
        ("http://llm.example/v1", "", False),
        ("https://localhost:8000/v1", "", False),
        ("https://127.0.0.1:8000/v1", "", False),
    ],
)
def test_the_proxy_is_for_the_endpoints_that_it_is_meant_for(
    base_url: str, no_proxy: str, proxied: bool
) -> None:
    proxy = where(base_url, "", "http://proxy:3128", no_proxy, "")["proxy"]
    assert proxy == ("http://proxy:3128" if proxied else "")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OPENAI_BASE_URL": "llm.example/v1"}, "OPENAI_BASE_URL: use an http"),
        ({"HTTPS_PROXY": "socks5://u:hunter2@p:1"}, "HTTPS_PROXY: use an http"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE: there is no such file"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_as_configured_stops_the_start(
    tmp_path: Path, variables: dict[str, str], says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        load(tmp_path, {}, OPENAI_MODEL="m", **variables)
    assert "hunter2" not in str(refused.value)
    load(tmp_path, {}, **variables)  # nobody asks a model: nothing to check


def test_parameters_that_are_ours_cannot_be_configured(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.options: stream is set by redis-oncall"):
        load(tmp_path, {"model": {"options": {"stream": False}}})


def test_a_dry_run_is_asked_for_by_the_file_or_the_environment(tmp_path: Path) -> None:
    assert not load(tmp_path).policy.dry_run
    assert load(tmp_path, REDIS_ONCALL_DRY_RUN="1").policy.dry_run
    assert load(tmp_path, {"mode": "dry_run"}, REDIS_ONCALL_DRY_RUN="0").policy.dry_run
    with pytest.raises(SettingsError, match="REDIS_ONCALL_DRY_RUN"):
        load(tmp_path, REDIS_ONCALL_DRY_RUN="perhaps")


def test_a_freeze_of_something_unknown_freezes_nothing_and_is_refused(tmp_path: Path) -> None:
    for about in ({"targets": "cache-eu-9"}, {"environments": "prod-uction"}):
        entry = {"until": "2030-01-01", **about}
        with pytest.raises(SettingsError, match=r"freezes\.0\.(targets|environments): "):
            load(tmp_path, {"freezes": [entry]})
    twice = [{"name": name, "role": "admin", "sha256": SHA} for name in ("ann", "Ann")]
    with pytest.raises(SettingsError, match="used twice"):
        load(tmp_path, {"tokens": twice})


def test_nobody_is_named_as_the_program_is(tmp_path: Path) -> None:
    for entry in ({"name": "Policy"}, {"name": "ann", "person": "service"}):
        with pytest.raises(SettingsError, match="stands for redis-oncall itself"):
            load(tmp_path, {"tokens": [{"role": "admin", "sha256": SHA, **entry}]})


def test_one_server_is_written_to_under_one_name(tmp_path: Path) -> None:
    def targets(*remedies: str | None) -> dict[str, Any]:
        urls = [{"remedy_url": url} if url else {} for url in remedies]
        names = ("cache-a", "cache-b")
        return {
            "targets": [
                {"name": name, "url": "redis://r@h:6379", **url}
                for name, url in zip(names, urls, strict=True)
            ]
        }

    with pytest.raises(SettingsError, match=r"cache-a and cache-b both have .* h:6379") as refused:
        load(tmp_path, targets("redis://w:hush@h:6379/1", "redis://w:hush@H"))
    assert "hush" not in str(refused.value)
    assert len(load(tmp_path, targets("redis://w@h:6379", None)).config.targets) == 2
    assert len(load(tmp_path, targets("redis://w@h:6379", "redis://w@h:6380")).config.targets) == 2
