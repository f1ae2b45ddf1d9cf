"""What every test stands on."""

import os
import signal

# MKL may let its sums depend on where in memory a tensor lies; on some processors nothing is then equal to the bit.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the tests that press it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
