"""From predictions to the model that makes them, written whole: SavedModel, model.json, model card."""

import contextlib
import dataclasses
import logging as standard_logging
import os
from typing import Any, Callable, Iterator, Optional, Sequence
import uuid

from absl import logging
import tensorflow as tf

import pipeline
from pipeline import command, files
from pipeline.errors import UserError
from pipeline.export import (by_likeness, card, description as descriptions, gallery as galleries, graph, look,
                             parts as of_parts, tflite)
from pipeline.export.description import Description
from pipeline.export.parts import Parts, Request
from pipeline.records import dataset as datasets


def run_export(data_dir: str, request: Request, prepare: galleries.Prepare) -> None:
    """Writes the export to `request.out`. Raises UserError for what the user can mend.

    Args: prepare: as records are made, for the photos of a gallery.
    """
    data = datasets.load(data_dir)
    scores = files.read_json(request.scores) if request.scores else {}
    _check_target(request.out)
    _check_gallery(request, data)
    parts = of_parts.choose(request, data)
    gallery = galleries.read(request.gallery, data.manifest, prepare) if request.gallery else None
    command.begin_work()
    members = of_parts.load(parts, data)
    told = _describe(request, data, parts, scores)
    if gallery:
        parts, told = _added(gallery, members, parts, told, data)
    served = graph.Served(members, parts.on_top, parts.ranked)
    with _replacing_folder(request.out) as folder:
        _save(served, look.of(members), folder)
        if request.tflite:
            told = dataclasses.replace(told, tflite=tflite.write(folder, members, served, data))
        files.write_whole(os.path.join(folder, descriptions.CARD_FILE), card.text(told))
        descriptions.write(folder, told)
    print(f"export of {len(parts.flat)} network{'s' * (len(parts.flat) > 1)}: {request.out}")


def _check_gallery(request: Request, data: datasets.Dataset) -> None:
    """Raises UserError where a gallery can't be added."""
    if request.gallery and not data.task.exclusive:
        raise UserError(f"--gallery is for one label a picture; {data.directory} has several")
    if request.gallery and request.tflite:
        raise UserError("--tflite files hold networks alone, which know nothing of a --gallery: give one of the two")


def _added(gallery: galleries.Gallery, members: Sequence[graph.Member], parts: Parts, told: Description,
           data: datasets.Dataset) -> tuple[Parts, Description]:
    """The parts and what is told of them, with the individuals of a gallery."""
    found = by_likeness.centres(members, data, gallery)
    right, asked = by_likeness.recognized(members, found, gallery)
    print(f"gallery: {gallery.told}" + (f"; of the {asked} photos that have others of the same individual {right} are "
                                        "recognized by those" if asked else ""))
    on_top = dataclasses.replace(parts.on_top, shares=[[one.shares for one in several] for several in found],
                                 share_variables=[one.means for several in found for one in several])
    ranked = parts.ranked.with_individuals(gallery.names)
    photos = {name: len(several) for name, several in zip(gallery.names, gallery.photos)}
    told = dataclasses.replace(told, classes=(*told.classes, *gallery.classes(len(told.classes))), answers=ranked.answers,
                               gallery=photos, recognized=[right, asked])
    return dataclasses.replace(parts, on_top=on_top, ranked=ranked), told


def _save(served: graph.Served, looks: Optional[Callable], folder: str) -> None:
    signatures = served.signatures
    if looks:
        signatures[look.SIGNATURE] = looks.get_concrete_function()
    logger = logging.get_absl_logger()
    level = logger.level  # which absl's own verbosity would not bring back where none was set
    logger.setLevel(standard_logging.WARNING)  # it tells of every variable that it names anew
    try:
        tf.saved_model.save(served, folder, signatures=signatures)
    finally:
        logger.setLevel(level)


def _check_target(out: str) -> None:
    """Raises UserError where something else than an export would be written over."""
    if files.exists(out) and not files.exists(os.path.join(out, descriptions.FILE)) and (
            not tf.io.gfile.isdir(out) or tf.io.gfile.listdir(out)):
        raise UserError(f"--out: {out} is there and is no export; give another folder")


@contextlib.contextmanager
def _replacing_folder(out: str) -> Iterator[str]:
    """A new folder beside `out`, in which the block writes, and which then takes its place."""
    out = out.rstrip("/")
    temporary, former = (f"{out}.{uuid.uuid4().hex[:8]}{files.TEMPORARY}" for _ in range(2))
    files.make_dirs(temporary)
    try:
        yield temporary
        if files.exists(out):
            files.rename(out, former)
        files.rename(temporary, out)
    finally:
        for left in (temporary, former):
            if files.exists(left):
                tf.io.gfile.rmtree(left)


def _describe(request: Request, data: datasets.Dataset, parts: Parts, scores: dict[str, Any]) -> Description:
    manifest, on_top, ranked = data.manifest, parts.on_top, parts.ranked
    has_geo = on_top.place_logs is not None
    flags = {"blend": request.blend, "member_temperatures": parts.temperatures or None,
             "temperature": on_top.temperature, "prior_correction": request.priors.prior_correction,
             "geo_prior": request.priors.geo_prior, "geo_exponent": float(on_top.exponent) if has_geo else None,
             "min_samples": request.min_samples}
    versions = parts.networks[0][0].record.get("versions", {})
    return Description(
        competition=manifest.competition, kind=manifest.kind, exclusive=data.task.exclusive, classes=manifest.classes,
        unknown_answer=manifest.unknown_answer, open_set=ranked.rule, threshold=ranked.threshold,
        answers=ranked.answers,
        place=has_geo or any(network.takes_place for _, network, _ in parts.flat), date=has_geo and on_top.date,
        max_side=manifest.settings.get("max_side", 0), short_side=manifest.settings.get("short_side", 0),
        license=request.license, members=[_member(*one) for one in parts.flat], on_top=flags,
        seen=[one.meta.get("seen") or {} for one in parts.members], scores=scores,
        versions={**versions, "fieldmark": pipeline.__version__, "tensorflow": tf.__version__})


def _member(one, network, weight: float) -> dict[str, Any]:
    return {"model": one.meta["model"], "model_dir": network.model_dir, "fold": network.fold,
            "checkpoint": list(network.paths), "views": network.views, "size": network.size,
            "eval_resize": network.stage["eval_resize"], "weight": weight}
