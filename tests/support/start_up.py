"""What a command line imports before it does anything: torch alone costs more than all else."""

from support.deblur_process import run_python

HEAVY = "{'torch', 'numpy', 'diffusers', 'peft', 'PIL', 'pyvips', 'ray', 'torchvision', 'pydantic'}"

# Runs one command line, then tells on stderr which heavy modules it imported.
PROBE = f"""
import sys
from deblur_cli.app import run_app
status = run_app(sys.argv[1:])
sys.stderr.write("heavy: " + ",".join(sorted({HEAVY} & set(sys.modules))))
sys.exit(status)
"""


def count_modules(arguments: list[str]) -> int:
    """How many modules a command line loads; what it takes to start grows with them, on every machine the same."""
    code = "import sys; from deblur_cli.app import run_app; run_app(sys.argv[1:]); "
    answer = run_python(["-c", code + "sys.stderr.write(str(len(sys.modules)))", *arguments])
    return int(answer.stderr.splitlines()[-1])
