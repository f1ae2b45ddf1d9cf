"""What every test stands on."""

import os
import signal

# Where MKL may choose, its sums depend on where in memory a tensor lies: nothing is equal to the bit on some processors.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the tests that press it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
