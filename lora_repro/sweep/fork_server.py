"""Imported by the server that a sweep's runs are forked from, and by nobody else: it leaves their signals to them.

A cluster, or a kill of the whole process group, signals every process of a job. The supervisor and the run answer; the server
between them must stay until they have. Blocked and not ignored: a run inherits this, and what reaches it before it unblocks
them (`supervise._run`) is delivered then instead of lost.
"""

import signal
import warnings

# A run is `python -m lora_repro.run`, and that module is imported here already: runpy would say so at every run.
warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning, "runpy")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
