"""Settings: which value wins, and what a person is told about every mistake at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devices.instants import DAY, MINUTE
from gridwhistle.settings import Clock, ClockSource, Settings
from gridwhistle.settings_sources import LEAVES, SettingsError, load, variable
from ingest.decoder import UnknownDevices

ROOT = Path(__file__).resolve().parents[2]


def written(tmp_path: Path, text: str) -> Path:
    config = tmp_path / "gridwhistle.toml"
    config.write_text(text, encoding="utf-8")
    return config


def mistakes_of(config: Path | None, overrides: list[str], environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(config, overrides, environ)
    return [str(m) for m in caught.value.mistakes]


def test_without_anything_given_the_defaults_hold() -> None:
    settings = load(environ={})
    assert settings.data_dir == Path("data")
    assert settings.broker.url == "mqtt://127.0.0.1:1883"
    assert (settings.broker.host, settings.broker.port, settings.broker.tls) == ("127.0.0.1", 1883, False)
    assert settings.rules is None
    assert settings.town is None
    assert (settings.clock.max_ahead, settings.clock.max_behind) == (5 * MINUTE, 7 * DAY)
    assert settings.unknown_devices is UnknownDevices.QUARANTINE


def test_the_names_are_those_the_issue_promises() -> None:
    promised = (
        "data_dir broker.url broker.username broker.password_file broker.ca_file broker.client_id http.host http.port "
        "rules town site.zone clock.source clock.max_ahead clock.max_behind unknown_devices admin.password"
    )
    assert set(promised.split()) <= {".".join(key) for key in LEAVES}
    assert variable(("broker", "url")) == "GRIDWHISTLE_BROKER__URL"


def test_option_beats_environment_beats_file(tmp_path: Path) -> None:
    config = written(tmp_path, "[http]\nport = 1\nhost = 'file'\n[broker]\nusername = 'file'\n")
    environ = {"GRIDWHISTLE_HTTP__PORT": "2", "GRIDWHISTLE_HTTP__HOST": "environment"}
    settings = load(config, ["http.port=3"], environ)
    assert settings.http.port == 3
    assert settings.http.host == "environment"
    assert settings.broker.username == "file"


def test_every_setting_can_be_given_in_each_of_the_three_ways(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    samples = {
        "broker.url": "mqtts://broker.example", "http.port": "9000", "site.zone": "UTC", "clock.source": "data",
        "clock.max_ahead": "1h", "clock.max_behind": "none", "unknown_devices": "refuse", "log.json": "true",
        "log.level": "debug", "ingest.batch_ms": "20", "ingest.batch_rows": "50", "ingest.receive_maximum": "100",
        "journal.max_mb": "64", "orders.watch": "1d", "sessions.hours": "1", "notify.attempts": "3",
        "ingest.max_messages_per_s": "50", "ingest.burst_s": "10", "broker.keep_alive_s": "5",
        "retention.raw": "30d", "retention.personal": "7d", "retention.minutes": "none", "retention.hours": "900d",
        "retention.evidence_days": "3", "retention.kinds.camera": "none", "retention.metrics.patrol.battery": "5d",
        "notify.channels.duty": "env:DUTY_URL", "admin.password": "long enough",
    }  # fmt: skip
    for key in LEAVES:
        name = ".".join(key)
        if name in {"notify.channels", "retention.kinds", "retention.metrics"}:
            continue
        samples.setdefault(name, str(tmp_path / "x"))
    samples["broker.client_id"] = "another"
    by_option = load(None, [f"{k}={v}" for k, v in samples.items()], {})
    by_variable = load(None, [], {variable(tuple(k.split("."))): v for k, v in samples.items()})
    by_file = load(written(tmp_path, "\n".join(f'{k} = "{v}"' for k, v in samples.items())), [], {})
    assert by_option == by_variable == by_file
    assert by_option != Settings()
    assert by_option.clock == Clock(source=ClockSource.DATA, max_ahead=60 * MINUTE, max_behind=None)
    assert by_option.notify.channels == {"duty": "env:DUTY_URL"}
    assert by_option.retention.kinds == {"camera": None}
    assert by_option.retention.metrics == {"patrol": {"battery": 5 * DAY}}


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "rules").mkdir(parents=True)
    text = 'rules = "rules"\ndata_dir = "d"\n[notify.channels]\nduty = "file:duty.url"\n'
    config = written(tmp_path / "site", text)
    monkeypatch.chdir(tmp_path)
    settings = load(config, [], {"GRIDWHISTLE_TOWN": "site"})
    assert settings.rules == tmp_path / "site" / "rules"
    assert settings.data_dir == tmp_path / "site" / "d"
    assert settings.notify.channels["duty"] == f"file:{tmp_path / 'site' / 'duty.url'}"
    assert settings.town == Path("site")


def test_all_mistakes_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        'unknown_devices = "maybe"\n'
        "[broker]\n"
        'url = "http://x"\n'
        "ulr = 1\n"
        "[clock]\n"
        'max_ahead = "5 minutes"\n'
        "max_behind = 300\n"
        'rules = "not here, in clock"\n',
    )
    told = mistakes_of(config, ["site.zone=Mars", "nonsense", "http=3"], {"GRIDWHISTLE_HTTP__PORT": "many", "X": "1"})
    assert len(told) == 9
    for start in (
        f"{config}:1: unknown_devices: 应为 expected quarantine, accept or refuse",
        f"{config}:3: broker.url: 应为 expected mqtt://host[:port] or mqtts://host[:port]",
        f"{config}:4: broker.ulr: 应为 expected a known setting; did you mean broker.url?",
        f"{config}:6: clock.max_ahead: 应为 expected a duration such as 90s, 5m, 1h30m or 7d, or none，得到 got",
        f"{config}:7: clock.max_behind: 应为 expected a duration",
        f"{config}:8: clock.rules: 应为 expected a known setting; did you mean",
        "--set site.zone: site.zone: 应为 expected an IANA zone",
        "--set: --set: 应为 expected KEY=VALUE",
        "--set http: http: 应为 expected a group of settings: http.host, http.port",
    ):
        assert [t for t in told if t.startswith(start)], (start, told)
    assert mistakes_of(None, [], {"GRIDWHISTLE_HTTP__PORT": "many"}) == [
        "GRIDWHISTLE_HTTP__PORT: http.port: 应为 expected 0 to 65535，得到 got 'many'"
    ]


@pytest.mark.parametrize("given", ["kinds.nothing=5d", "metrics.camera.level=5d", "kinds.camera=5", "raw=5"])
def test_how_long_something_is_kept_names_what_there_is_and_a_unit(given: str) -> None:
    assert mistakes_of(None, [f"retention.{given}"], {})


def test_a_number_without_a_unit_is_no_span_in_a_table_either(tmp_path: Path) -> None:
    assert mistakes_of(written(tmp_path, "[retention.metrics.camera]\nonline = 5\n"), [], {})


def test_a_variable_with_our_prefix_that_is_no_setting_is_a_mistake() -> None:
    assert mistakes_of(None, [], {"GRIDWHISTLE_BROKER_URL": "mqtt://x"})[0].startswith("GRIDWHISTLE_BROKER_URL: ")
    load(None, [], {"GRIDWHISTLE_SHARED": "/x", "GRIDWHISTLE_REQUIRE_SERVICES": "1", "PATH": os.defpath})


def test_a_file_or_folder_that_is_not_there_is_told_beside_other_mistakes(tmp_path: Path) -> None:
    config = written(tmp_path, 'town = "no-such-town"\n')
    told = mistakes_of(config, ["broker.password_file=/no/such", "http.port=x"], {})
    assert sorted(t.split(": ")[1] for t in told) == ["broker.password_file", "http.port", "town"]
    assert any(t.startswith(f"{config}:1: town") for t in told)


def test_a_file_that_is_not_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    config = written(tmp_path, "data_dir = 'x'\nhttp = = 3\n")
    assert mistakes_of(config, [], {})[0].startswith(f"{config}:2:8: TOML: ")
    assert mistakes_of(tmp_path / "absent.toml", [], {})[0].startswith(f"{tmp_path / 'absent.toml'}: --config: ")


@pytest.mark.parametrize(
    "given",
    [
        "admin.password=hunter2",  # too short
        "broker.url=mqtt://user:hunter2@broker",
        "notify.channels.duty=https://hook.example/hunter2",
        "notify.channels.Duty=https://hook.example/hunter2",
        "hunter2",
    ],
)
def test_no_mistake_repeats_a_secret(given: str) -> None:
    assert "hunter2" not in "\n".join(mistakes_of(None, [given], {}))


def test_no_secret_in_repr() -> None:
    assert "correct horse" not in repr(load(None, ["admin.password=correct horse"], {}))


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("s3cret\nnot this\n")
    assert load(None, [f"broker.password_file={tmp_path / 'p'}"], {}).broker.read_password() == "s3cret"
    assert load(environ={}).broker.read_password() is None


def test_settings_made_directly_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDWHISTLE_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("DATA_DIR", "/elsewhere")
    assert Settings().data_dir == Path("data")


def test_the_settings_reference_is_what_the_settings_say() -> None:
    made = subprocess.run([sys.executable, "scripts/settings_doc.py"], cwd=ROOT, capture_output=True, check=True)
    assert made.stdout.decode() == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), (
        "run: python scripts/settings_doc.py > docs/settings.md"
    )


def test_the_sample_in_the_settings_reference_loads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    sample = page.partition("```toml\n")[2].partition("```")[0]
    for name in ("rules", "town"):
        (tmp_path / name).mkdir()
    (tmp_path / "broker.password").touch()
    assert load(written(tmp_path, sample), [], {}).broker.host == "10.0.0.5"
