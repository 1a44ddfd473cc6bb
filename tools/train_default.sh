#!/usr/bin/env bash
# The recipe of the model in fader/weights/default, whole. Run it again after a stop: it goes on.
#
#     tools/train_default.sh CELEBA [RUNS]
set -euo pipefail
data=${1:?usage: tools/train_default.sh CELEBA [RUNS]} runs=${2:-runs} tools=$(dirname "$0")
attributes=Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Bangs,Hair
store=$runs/store-128 run=$runs/default

fader prepare "$data" "$store" --size 128
