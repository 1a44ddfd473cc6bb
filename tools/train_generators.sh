#!/usr/bin/env bash
# The recipe of both generators in cgan/weights, whole: faces by attribute, faces by emotion.
#
#     tools/train_generators.sh FACES EMOTIONS [RUNS]
#
# FACES is a folder in CelebA's layout or a store prepared at 128 px; EMOTIONS a folder or zip of
# train/CLASS/ images. The faces take an hour and three quarters of two CPU cores with AVX512-BF16,
# the emotions 14 minutes. Run it again after a stop: it goes on.
set -euo pipefail
faces=${1:?usage: tools/train_generators.sh FACES EMOTIONS [RUNS]}
emotions=${2:?usage: tools/train_generators.sh FACES EMOTIONS [RUNS]}
runs=${3:-runs}
tools=$(dirname "$0")

cgan train --preset large --data "$faces" \
    --labels Male,Blond_Hair,Black_Hair,Smiling,Young,Eyeglasses \
    --steps 9000 -s decay_steps=2500 --out "$runs/faces-128" --resume
python "$tools/package.py" generator "$runs/faces-128" cgan/weights/faces \
    --data "CelebA, 25,500 aligned images of its training part, labels by people"

cgan train --data "$emotions" --labels folder --size 48 --channels 1 \
    --steps 6000 -s decay_steps=1500 --out "$runs/emotions-48" --resume
python "$tools/package.py" generator "$runs/emotions-48" cgan/weights/emotions \
    --data "16,441 grey faces of seven expressions, 48 px"
