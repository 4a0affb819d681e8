"""A chain of labelling services: each is asked for what those before it could not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cloud.labeling.service import Answer, LabelSource, UnlabeledSample


class Chain:
    """Several services as one; a `LabelSource`.

    What one refuses, the next is asked for, and begins with the boxes that the one before was unsure of.
    What one waits for stays with it. A refusal by the last is the chain's.
    """

    def __init__(self, sources: Sequence[LabelSource]) -> None:
        """Take the services, in the order in which they are asked; one at least."""
        self._sources = tuple(sources)

    @property
    def name(self) -> str:
        """All their names."""
        return ", then ".join(source.name for source in self._sources)

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """See `LabelSource.label`. Each answer says whose it is."""
        left = list(samples)
        for place, source in enumerate(self._sources, 1):
            by_id = {sample.id: sample for sample in left}
            left = []
            for answer in source.label(list(by_id.values())):
                if answer.refusal and place < len(self._sources):
                    left.append(_passed_on(by_id[answer.sample_id], answer))
                else:
                    yield replace(answer, service=answer.service or source.name)
            if not left:
                return


def _passed_on(sample: UnlabeledSample, answer: Answer) -> UnlabeledSample:
    if not answer.suggestions:
        return sample
    return replace(sample, suggestions=answer.suggestions, suggested_by=answer.suggested_by)
