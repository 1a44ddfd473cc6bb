#!/usr/bin/env bash
# The recipe of the default model, whole. Run it again after a stop: it goes on.
#
#     tools/train_default.sh CELEBA [RUNS]
set -euo pipefail
data=${1:?usage: tools/train_default.sh CELEBA [RUNS]} runs=${2:-runs} tools=$(dirname "$0")
store=$runs/store-128 run=$runs/default attributes=Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Bangs,Hair

fader prepare "$data" "$store" --size 128
# Classifier and judge share neither people nor architecture.
learn() { fader train-classifier --resume --data "$store" --out "$runs/$1" --size 96 --batch-size 32 \
    --learning-rate 1.5e-3 "${@:2}"; }
learn classifier --steps 9000 --identities even --width 16
learn judge --steps 3400 --identities odd --architecture plain --width 24 --seed 1234 --even-handed
python "$tools/package.py" judge "$runs/judge"
if test -e "$run/config.json"; then fader train --resume --out "$run"
else fader train --preset default --attrs "$attributes" --data "$store" --classifier "$runs/classifier/model" --out "$run"; fi
python "$tools/package.py" model "$run/model" fader/weights/default --data "CelebA (Liu et al. 2015)" --store "$store"
fader evaluate --model default --data "$store" --limit 600 --html "$runs/report.html"
