#!/usr/bin/env bash
# The recipe of the model in fader/weights/default, whole: prepare, guide, train, package.
#
#     tools/train_default.sh DATA [RUNS]
#
# DATA is a folder in CelebA's layout; the shipped model was trained on Labeled Faces in the Wild
# (deep-funneled) in that layout, with attributes annotated by another network. Run it again after
# a stop: it goes on.
set -euo pipefail
data=${1:?usage: tools/train_default.sh DATA [RUNS]}
runs=${2:-runs}

fader prepare "$data" "$runs/store-128" --size 128

# The guide sees only people with even identity numbers, so that a judge trained on the others
# shares neither weights nor people with it.
if ! test -e "$runs/guide/model/config.json"; then
    rm -rf "$runs/guide"
    fader train-classifier --data "$runs/store-128" --out "$runs/guide" --identities even --steps 1800
fi

fader train --attrs Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Gray_Hair --data "$runs/store-128" \
    --classifier "$runs/guide/model" --out "$runs/default" --resume

python "$(dirname "$0")/package_model.py" "$runs/default/model" fader/weights/default \
    --store "$runs/store-128" \
    --data "Labeled Faces in the Wild (deep-funneled), attributes annotated by a network"
