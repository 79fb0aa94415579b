"""What a linear model makes of EmoDB: the figures beside the networks' in 07_unseen_voices.

    python benchmarks/linear.py [--emodb data/emodb] [--speakers 03,08,09,10,11]

Logistic regression on mean and deviation of each clip's frames, level taken away, for speakers who were not in training;
blind, and with these statistics scaled speaker by speaker. The result goes to results/unseen/linear.json.
"""
import argparse
import json
from pathlib import Path

import numpy as np

from ser_nb.data import load_corpus, replace_file
from ser_nb.dataset import class_names, label_ids, split_speakers
from ser_nb.features import FeatureSettings, extract
from ser_nb.train import val_scores

FAMILIES = ("mfcc", "delta", "delta2", "logmel", "contrast", "zcr", "pitch")
LEVEL = {"logmel": slice(None), "mfcc": slice(0, 1)}  # columns whose common mean is the clip's level


def clip_statistics(features):
    "Mean and deviation of each column, over the frames of a clip without its level."
    rows = []
    for i in range(len(features)):
        x = np.array(features[i], float)
        for family, columns in LEVEL.items():
            part = x[:, features.settings.families[family]][:, columns]
            part -= part.mean()
        x = np.hstack([x[:, features.settings.families[family]] for family in FAMILIES])
        rows.append(np.concatenate([x.mean(0), x.std(0)]))
    return np.stack(rows)


def speaker_scaled(stats, speaker):
    "The statistics of each speaker, scaled by themselves."
    done = np.empty_like(stats)
    for s in np.unique(speaker):
        own = speaker == s
        done[own] = (stats[own] - stats[own].mean(0)) / (stats[own].std(0) + 1e-3)
    return done


def judged(stats, labels, speaker, tested, c):
    "UAR over the clips of these speakers together, each asked after learning from all others."
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    p = np.zeros((len(labels), labels.max() + 1))
    for s in tested:
        new = speaker == s
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=2000))
        p[np.ix_(new, np.unique(labels[~new]))] = model.fit(stats[~new], labels[~new]).predict_proba(stats[new])
    asked = np.isin(speaker, tested)
    return val_scores(p[asked], labels[asked])["val_uar"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--emodb", default="data/emodb")
    p.add_argument("--speakers", default="03,08,09,10,11")
    p.add_argument("--features", default="data", help="folder for the feature folder")
    p.add_argument("--out", default=str(Path(__file__).parent / "results" / "unseen"))
    options = p.parse_args()
    features = extract(load_corpus(options.emodb), Path(options.features) / "families_emodb",
                       FeatureSettings(pitch=True))
    speaker, tested = features.index["speaker"].to_numpy(str), options.speakers.split(",")
    labels = label_ids(features.index["emotion"], class_names(split_speakers(features.index, tested[:1], val=0.05)))
    stats = clip_statistics(features)
    found = {track: {c: judged(x, labels, speaker, tested, c) for c in (0.003, 0.01, 0.03)}
             for track, x in (("blind", stats), ("adapted", speaker_scaled(stats, speaker)))}
    result = {"speakers": tested, "families": FAMILIES, "uar": found, "data_hash": features.data_hash}
    with replace_file(Path(options.out) / "linear.json") as f: Path(f).write_text(json.dumps(result, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
