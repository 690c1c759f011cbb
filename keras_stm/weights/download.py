"""Downloads weights into Keras's cache."""

import hashlib
import http.client
import os
import ssl
import urllib.error

import filelock
import keras
from absl import logging

from keras_stm.arguments import ArgumentError
from keras_stm.replacing import replacing

# Errors of the network. Any other `OSError` is an error of the disk.
_OF_THE_NETWORK = (
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    urllib.error.URLError,
    http.client.HTTPException,
)


def make_once(path, make):
    """Makes a file unless it exists. Of several processes, one makes it, and the others wait for it.

    Args:
        path: the file.
        make: function that writes it.

    Returns:
        `path`.

    Raises:
        OSError: if the file does not exist, and its folder is not writable.
    """
    if os.path.exists(path):
        return path
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    # The system frees the lock of a process that is killed.
    lock = filelock.FileLock(os.path.join(folder, f".{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logging.warning("Waiting for another process that writes %s", path)
        lock.acquire()
    try:
        if not os.path.exists(path):
            make()
    finally:
        lock.release()
    return path


def download(url, path, weights, sha256="", megabytes=None):
    """Downloads a file, with a progress bar. It is written completely or not at all.

    Args:
        url: address of the file.
        path: the file to write, in an existing folder. Otherwise, `get_file` would choose another folder.
        weights: value of the argument `weights`, for errors.
        sha256: first hexadecimal digits of the file's hash.
        megabytes: size of the file, or `None` if it is unknown.

    Raises:
        ValueError: if the file cannot be downloaded, or has another hash.
        OSError: if it cannot be written, for example because the disk is full.
    """
    size = f" (about {megabytes:.0f} MB)" if megabytes else ""
    way_out = f"Download {url}{size} on another machine and save it as {path}, or pass its path as `weights`"
    with replacing(path, shared=True) as partial:
        # This fails if the folder is not writable. get_file would write to another folder instead.
        open(partial, "wb").close()
        folder, file = os.path.split(partial)
        try:
            keras.utils.get_file(file, url, cache_dir=folder, cache_subdir="", force_download=True)
        except Exception as error:
            # If the server does not answer, get_file raises a plain `Exception`.
            if type(error) is not Exception and not isinstance(error, _OF_THE_NETWORK):
                raise
            raise ArgumentError(
                "weights", weights, f"could not be downloaded ({error}). {way_out}"
            ) from error
        found = hash_of(partial)
        if not found.startswith(sha256):
            raise ArgumentError(
                "weights",
                weights,
                f"could not be downloaded: the SHA-256 of what the server sent begins with {found[:8]}, "
                f"not with {sha256}. {way_out}",
            )


def hash_of(path):
    """Returns the SHA-256 hash of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
