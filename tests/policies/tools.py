"""Programs of the policy engines, built from their Go modules and kept in the cache (release/go_programs.py)."""

from pathlib import Path

from release.go_programs import GoProgram

TOOLS = Path(__file__).parent / "tools"

GATOR = GoProgram(TOOLS / "gator", "github.com/open-policy-agent/gatekeeper/v3/cmd/gator", minutes=3)
KYVERNO = GoProgram(TOOLS / "kyverno", "github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno", minutes=8)
