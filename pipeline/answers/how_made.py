"""How predictions were made: what is fitted on some is put on others, which may have been made otherwise."""

from typing import Sequence

from pipeline.answers import predictions


def tell_differences(flag: str, labelled: Sequence[predictions.Predictions],
                     members: Sequence[predictions.Predictions]) -> None:
    """Says where what was fitted on some predictions is put on others that were made otherwise."""
    for fitted, used in zip(labelled, members):
        then, now = _how_made(fitted), _how_made(used)
        different = [f"{then[name]}, here {now[name]}" for name in then if then[name] != now[name]]
        if different:
            print(f"{flag} was fitted on {fitted.directory}, put on {used.directory}: there {'; there '.join(different)}")


def _how_made(one: predictions.Predictions) -> dict[str, str]:
    meta = one.meta
    models = len(meta["fold"]) if isinstance(meta.get("fold"), list) and not meta.get("out_of_fold") else 1
    return {"views": f"--tta={meta.get('tta')}", "size": f"{meta.get('size')} px",
            "average": f"--average={meta.get('average')}", "models": f"{models} model(s) a picture",
            "neighbours": f"--neighbours={meta.get('neighbours', 0)}"}
