"""The table of all broken set-ups. Each row breaks one thing, and doctor must report that fault first."""

from tests.unit.doctor.broken_application import BROKEN_APPLICATION
from tests.unit.doctor.broken_exchange import BROKEN_EXCHANGE
from tests.unit.doctor.broken_identity import BROKEN_IDENTITY

BROKEN = (*BROKEN_IDENTITY, *BROKEN_EXCHANGE, *BROKEN_APPLICATION)
