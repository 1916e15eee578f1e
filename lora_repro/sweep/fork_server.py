"""Blocks signals in the server that a sweep's runs are forked from; only that server imports this module.

A cluster, or a kill of the process group, signals every process of a job. The supervisor and the run react; the server between
them must live until they have. The signals are blocked, not ignored: a run inherits this, and a signal that reaches it before
it unblocks them (`supervise._run`) is then delivered, not lost.
"""

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
