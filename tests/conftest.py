"""What every test stands on."""

import signal

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the tests that press it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
