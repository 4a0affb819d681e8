"""The section `[purity]`: what a batch of labelled pictures must be, as data. Units stand in the names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from cloud.config.types import Count, Positive, Section, Share


class PurityRule(Section):
    """What one kind of find means. Shares are of what was looked at: pictures, boxes, drives, classes."""

    # Above this share the batch is warned of, and above that it fails. 0: with the first; 1: never.
    warn_above: Share = 0.0
    fail_above: Share = 1.0
    # Such a picture is left out of what is trained on.
    refuse: bool = False


class PurityRules(Section):
    """A rule a kind; docs/purity.md says what each looks for. What a rule leaves out stays as it is here."""

    unreadable_picture: PurityRule = PurityRule(fail_above=0.1, refuse=True)
    bad_label: PurityRule = PurityRule(fail_above=0.02)
    unknown_class: PurityRule = PurityRule(fail_above=0.01, refuse=True)
    box_out_of_bounds: PurityRule = PurityRule(fail_above=0.05, refuse=True)
    box_size: PurityRule = PurityRule(warn_above=0.001, fail_above=0.05)
    blurred: PurityRule = PurityRule(warn_above=0.02, fail_above=0.2)
    badly_exposed: PurityRule = PurityRule(warn_above=0.02, fail_above=0.2)
    duplicate: PurityRule = PurityRule(fail_above=0.5, refuse=True)
    duplicate_across_splits: PurityRule = PurityRule(fail_above=0.0)
    duplicate_of_known: PurityRule = PurityRule(fail_above=0.5, refuse=True)
    drive_across_splits: PurityRule = PurityRule(fail_above=0.0)
    drive_in_holdout: PurityRule = PurityRule(refuse=True)
    class_balance: PurityRule = PurityRule()
    slice_balance: PurityRule = PurityRule()
    drift_from_known: PurityRule = PurityRule()
    doubtful_label: PurityRule = PurityRule(warn_above=0.1)
    sources_disagree: PurityRule = PurityRule(warn_above=0.3)

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: object) -> object:
        """A rule that is given in part is the default one but for that."""
        if not isinstance(given, dict):
            return given
        return {
            name: {**cls.model_fields[name].default.model_dump(), **rule}
            if isinstance(rule, dict) and name in cls.model_fields
            else rule
            for name, rule in given.items()
        }


class PurityConfig(Section):
    """What a sample must be to be trained on."""

    # Pictures whose difference hashes are so near, of 64 bits, are compared closely; by the hash alone, where
    # there is no more of the other picture, so near are the same picture twice.
    compare_bits: Annotated[int, Field(ge=0, le=64)] = 10
    duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 2
    # Compared closely, pictures with a correlation from here on are the same picture twice.
    duplicate_likeness: Share = 0.98
    # So far a box may reach beyond its picture, for rounding.
    box_slack_px: Annotated[float, Field(ge=0)] = 1.0
    # A box with a shorter side, a larger share of its picture, or longer by so many times than wide (or wide
    # than long) is none that a person drew.
    min_box_px: Annotated[float, Field(ge=0)] = 1.0
    max_box_share: Share = 0.9
    max_box_aspect: Annotated[float, Field(ge=1)] = 20.0
    # How far from its slice's median a picture may be, in robust standard deviations, in sharpness and in
    # light; slices with fewer pictures have no norm.
    norm_deviations: Positive = 5.0
    min_norm_pictures: Count = 20
    # A class with so many times the boxes that known data let expect, or one so-manieth, is out of balance.
    balance_ratio: Annotated[float, Field(gt=1)] = 3.0
    # With fewer boxes expected, a class is not judged; a slice with a smaller share of all pictures is thin.
    min_expected_boxes: Count = 30
    min_slice_share: Share = 0.02
    # Features have drifted with a larger KS distance between drives, and a smaller p-value over all of them.
    drift_distance: Share = 0.3
    drift_p_value: Share = 0.01
    # Known pictures that new ones are compared with, spread over drives.
    known_pictures: Count = 300
    # Pictures that a model looks at to find doubtful labels; 0: none. A label is told that is in a wrong
    # place with this probability, or has another class or is missing where that is so rare among its like.
    review_pictures: Annotated[int, Field(ge=0)] = 500
    doubt_chance: Share = 0.2
    doubt_rarity: Share = 0.05
    # Overlap from which two sources' boxes are the same object.
    agreement_iou: Share = 0.5
    # With more than this refused, the whole batch is: something is wrong where it comes from.
    max_refused_share: Share = 0.5
    rules: PurityRules = PurityRules()
