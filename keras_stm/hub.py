"""Files to and from the Hugging Face Hub, through its library `huggingface_hub`."""

import re

from keras_stm.arguments import ArgumentError

PREFIX = "hf://"


def is_address(name):
    """Returns whether a name is the address of a model on the Hub, such as `"hf://user/name"`."""
    return isinstance(name, str) and name.startswith(PREFIX)


def download(address, file):
    """Downloads a file of a model the first time, into the cache of `huggingface_hub`.

    Args:
        address: `"hf://user/name"`.
        file: name of the file in the model's repository.

    Returns:
        Path of the file.

    Raises:
        ValueError: if the address is invalid, or the file cannot be downloaded.
        ImportError: if `huggingface_hub` is not installed.
    """
    repository = repository_of(address, "address")
    library = _library()
    try:
        return library.hf_hub_download(repository, file, library_name="keras_stm")
    except Exception as error:  # the library and its HTTP client raise many kinds of errors
        if not isinstance(error, OSError | ValueError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            "address", address, f"could not be downloaded: {file} of {repository} ({reason})"
        ) from error


def upload(folder, name):
    """Uploads all files of a folder to a model on the Hub, and creates the model if there is none.

    The account is that of `hf auth login`, or of the environment variable `HF_TOKEN`.

    Args:
        folder: path of the folder.
        name: `"user/name"`, with or without `"hf://"` before it.

    Returns:
        Address of the model's page.

    Raises:
        ValueError: if the name is invalid, or the Hub refuses the upload.
        ImportError: if `huggingface_hub` is not installed.
    """
    repository = repository_of(name)
    library = _library()
    api = library.HfApi(library_name="keras_stm")
    try:
        page = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by keras_stm")
    except OSError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArgumentError("name", name, f"could not be uploaded ({reason})") from error
    return str(page)


def repository_of(name, argument="name"):
    """Returns `"user/name"` of a name with or without `"hf://"`.

    Raises:
        ValueError: if it is no such name. The error names `argument`.
    """
    repository = name.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ArgumentError(argument, name, "must be the name of a model on the Hub, such as 'user/name'")
    return repository


def _library():
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("The Hugging Face Hub needs: pip install 'keras_stm[hub]'") from error
    return huggingface_hub
