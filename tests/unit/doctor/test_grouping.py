"""One cause is said once, however many targets it is about."""

from __future__ import annotations

from forwarder.doctor.findings import Finding, format_findings
from forwarder.doctor.grouping import grouped

TARGETS = [f"t{number}" for number in range(200)]


def of_each(about: str, sentence: str, targets: list[str] = TARGETS) -> list[Finding]:
    return [Finding("FAIL", about.format(name), sentence, "Correct it.") for name in targets]


def test_one_cause_of_two_hundred_targets_is_one_finding_that_counts_them() -> None:
    (finding,) = grouped(of_each("{}: credentials", "there are none."), TARGETS)
    assert finding.about == "credentials"
    assert finding.sentence == "there are none (200 targets: t0, t1, t2 and 197 more)"
    assert finding.remedy == "Correct it."
    assert finding.targets == tuple(TARGETS)
    assert format_findings([finding]).splitlines()[-1] == "1 check: 0 passed, 0 warnings, 1 failed"


def test_settings_of_targets_are_grouped_too() -> None:
    (finding,) = grouped(of_each("targets.{}.queue", "memory"), TARGETS)
    assert (finding.about, len(finding.targets)) == ("targets.*.queue", 200)


def test_another_cause_level_part_or_target_stands_alone_in_its_order() -> None:
    findings = [
        *of_each("{}: credentials", "none", ["t0", "t1"]),
        *of_each("{}: endpoint", "none", ["t0"]),
        *of_each("{}: credentials", "ended", ["t2"]),
        Finding("warn", "t3: credentials", "none", "Correct it."),
        Finding("ok", "storage.path", "good"),
        Finding("ok", "elsewhere: credentials", "none of the targets"),
    ]
    assert [(each.about, each.targets) for each in grouped(findings, TARGETS)] == [
        ("credentials", ("t0", "t1")),
        ("t0: endpoint", ()),
        ("t2: credentials", ()),
        ("t3: credentials", ()),
        ("storage.path", ()),
        ("elsewhere: credentials", ()),
    ]
