"""Jobs in processes."""

import multiprocessing
import os
import signal
import time

import pytest

from reproduction import pool


def test_a_job_that_fails_is_named_and_the_others_are_stopped():
    jobs = [
        pool.Job("sleeps", time.sleep, (600,)),
        pool.Job("fails", os.listdir, ("/no/such/folder",)),
    ]
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="^fails: FileNotFoundError: .*/no/such/folder"):
        pool.run(jobs, 2, "none", lambda job, result: None)
    assert time.monotonic() - start < 120
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_an_error_and_no_end_of_waiting():
    jobs = [pool.Job("dies", os._exit, (1,))]
    with pytest.raises(RuntimeError):
        pool.run(jobs, 1, "none", lambda job, result: None)


def test_ctrl_c_stops_all_processes():
    # A terminal sends Ctrl-C to all processes. Those of the pool ignore it, and the command handles it.
    jobs = [
        pool.Job("ctrl-c", signal.raise_signal, (signal.SIGINT,)),
        *(pool.Job(name, time.sleep, (600,)) for name in ("sleeps", "sleeps, too")),
    ]
    ended, first = [], []

    def on_end(job, result):
        ended.append(job.name)

    def show(done):
        # Once the first job has ended, the second and the third sleep.
        if ended:
            first.append(multiprocessing.active_children())
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run(jobs, 2, "none", on_end, show=show)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["ctrl-c"] and len(first[0]) == 2
    assert not multiprocessing.active_children()


def test_a_job_waits_for_what_it_needs(tmp_path):
    ended = []
    jobs = [
        pool.Job("second", os.listdir, (str(tmp_path / "made"),)),
        pool.Job("first", os.mkdir, (str(tmp_path / "made"),)),
    ]

    def is_ready(job):
        return job.name == "first" or ended == ["first"]

    pool.run(jobs, 2, "none", lambda job, result: ended.append(job.name), is_ready)
    assert ended == ["first", "second"]
