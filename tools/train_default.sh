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

# Five stretches of one run, as the packaged weights came about: the terms on changed decodings were
# weaker at first. (The code moved on the way; docs/model-card.md says how.)
stretch() { # NAME OPTIONS: go on with the run until the stretch is done, once
    test -e "$runs/default.$1" && return
    fader train --resume --out "$runs/default" "${@:2}"
    touch "$runs/default.$1"
}
stretch first \
    --attrs Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Gray_Hair,Blond_Hair,Attractive,High_Cheekbones,Bags_Under_Eyes \
    --data "$runs/store-128" --classifier "$runs/guide/model" \
    -s steps=2276 -s decay_steps=0 -s erase_steps=0 -s classifier_weight=0.002 \
    -s recognition_weight=0.005 -s patch_weight=0.015 -s gradient_penalty=0.02 -s change_weight=0.02
stretch second -s steps=3624 -s classifier_weight=0.006 -s recognition_weight=0.015
stretch third -s steps=6384 -s erase_steps=384 -s classifier_weight=0.004 -s patch_weight=0.02 \
    -s gradient_penalty=0.01 -s change_weight=0.03
stretch fourth -s steps=11000 -s decay_steps=3500 -s erase_steps=5000 -s patch_weight=0.06
stretch fifth -s steps=14000 -s decay_steps=3000 -s erase_steps=8000 -s learning_rate=3e-4 \
    -s shuffled_fraction=0.25
python "$(dirname "$0")/package_model.py" "$runs/default/model" fader/weights/default \
    --store "$runs/store-128" \
    --data "Labeled Faces in the Wild (deep-funneled), attributes annotated by a network"
