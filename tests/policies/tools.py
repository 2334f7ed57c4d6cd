"""Build the programs of the policy engines from their Go modules, and cache the programs (release/go_programs.py)."""

from pathlib import Path

from release.go_programs import GoProgram

TOOLS = Path(__file__).parent / "tools"

GATOR = GoProgram(TOOLS / "gator", "github.com/open-policy-agent/gatekeeper/v3/cmd/gator", minutes=3)
KYVERNO = GoProgram(TOOLS / "kyverno", "github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno", minutes=8)
