"""A model is released: signed by the keys that are here, and by those elsewhere once they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from securesystemslib.signer import Signer

from cloud.release.errors import UnsignedError, WaitsForSignatureError
from cloud.release.keys import OFFLINE_URI, KeyRing
from cloud.release.releasing import ReleaseTerms, complete_release, propose_release
from protos.release_facts import ReleaseFacts


def sign_release(
    folder: Path,
    keys: KeyRing,
    model: bytes,
    terms: ReleaseTerms,
    tell: Callable[[str], None] = lambda step: None,
) -> ReleaseFacts:
    """Release a model. The same call again goes on where it is, and publishes nothing twice.

    Args:
        folder: the repository.
        keys: of the cloud.
        model: the model file's bytes.
        terms: what the owner says of it.
        tell: is told each step.

    Raises:
        WaitsForSignatureError: the trainer's or the gate's key is elsewhere (`offline:`), and its signature
            is not here yet.
        ReleaseError: a key is not where its URI says, or the release is not possible.
        OSError: the repository cannot be written.
    """
    trainer = _here(keys, keys.release_key("trainer", terms.fleet))
    tell("trainer signs" if trainer is not None else "the trainer's key is elsewhere")
    facts = propose_release(folder, model, terms, trainer)
    gate = _here(keys, keys.release_key("gate", terms.fleet))
    tell("gate signs" if gate is not None else "the gate's key is elsewhere")
    try:
        return complete_release(
            folder,
            facts.model_sha256,
            gate,
            keys.signer("snapshot"),
            keys.signer("timestamp"),
            fleet=terms.fleet,
            terms=terms,
        )
    except UnsignedError as error:
        if trainer is not None and gate is not None:
            raise
        raise WaitsForSignatureError(
            f"{error}; `cloud release prepare FILE` writes what is to be signed, `cloud release sign FILE`"
            " signs it where the keys are, `cloud release publish FILE` takes it back"
        ) from None


def _here(keys: KeyRing, name: str) -> Signer | None:
    key = keys.keys.get(name)
    return None if key is not None and key.uri == OFFLINE_URI else keys.signer(name)
