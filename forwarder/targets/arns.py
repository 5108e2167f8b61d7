"""Event buses that events name both by name and by ARN. Pure.

A name belongs to the account of the credentials, so only AWS's answer about a name says which ARN it has.

Invariants:
- An ARN is taken for a name only by AWS's answer about this name, and only if it ends with this name: an
  endpoint that answers every question alike makes no two buses one.
- It holds until AWS answers differently. Nothing of it is stored: another run may have other credentials.
- One ARN has one name, and one name has one ARN. Who owns the names bounds their number.
"""

from __future__ import annotations


class Arns:
    """``used``: whether events came that use the ARN."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._arns: dict[str, str] = {}
        self._used: set[str] = set()

    def name_of(self, name: str) -> str:
        """The name of the bus with this ARN if it is known; else what was given."""
        return self._names.get(name, name)

    def arn_of(self, name: str) -> str:
        """The ARN of the bus with this name, "" if it is not known."""
        return self._arns.get(name, "")

    def is_arn_of(self, arn: str, name: str) -> bool:
        """Whether AWS's answer about ``name`` shows that this is its ARN."""
        return not name.startswith("arn:") and arn.partition(":event-bus/")[2] == name

    def set(self, name: str, arn: str) -> None:
        self.forget(name)
        self.forget(self.name_of(arn))
        self._names[arn], self._arns[name] = name, arn

    def use(self, name: str) -> bool:
        """Events use this name; whether it is a known ARN that none used before."""
        if name not in self._names or name in self._used:
            return False
        self._used.add(name)
        return True

    def is_used(self, arn: str) -> bool:
        return arn in self._used

    def forget(self, name: str) -> str:
        """Nothing is known of this name's ARN any more; the ARN, "" if there was none or no event used it."""
        arn = self._arns.pop(name, "")
        self._names.pop(arn, None)
        used = arn in self._used
        self._used.discard(arn)
        return arn if used else ""
