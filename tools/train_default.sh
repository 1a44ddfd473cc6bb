#!/usr/bin/env bash
# The recipe of the model in fader/weights/default, whole: prepare, guide, train, package.
#
#     tools/train_default.sh DATA [RUNS]
#
# DATA is a folder in CelebA's layout; the shipped model was trained on Labeled Faces in the Wild
# (deep-funneled) in that layout, with attributes annotated by another network. It takes about
# two hours on two CPU cores with AVX512-BF16. Run it again after a stop: it goes on.
set -euo pipefail
data=${1:?usage: tools/train_default.sh DATA [RUNS]}
runs=${2:-runs}
attributes=Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Blond_Hair,Gray_Hair

fader prepare "$data" "$runs/store-128" --size 128

# The guide sees only people with even identity numbers, so that a judge trained on the others
# shares neither weights nor people with it.
if ! test -e "$runs/guide/model/config.json"; then
    rm -rf "$runs/guide"
    fader train-classifier --data "$runs/store-128" --out "$runs/guide" --identities even --steps 1800
fi

# The shipped weights went through these legs, each until the step in the first column. Up to 4974
# the patch discriminator was spectrally normalised, which left it too weak to tell patterns from
# skin; the strong classifier term of the beginning made such patterns, the change term removed
# them, and the last leg presses λ again. Not the shortest way: a new run is better started with
# the preset, which has the last leg's weights, or from the shipped model with --init.
run=$runs/default
fader train --attrs "$attributes" --data "$runs/store-128" --classifier "$runs/guide/model" \
    --out "$run" --resume -s steps=1 -s decay_steps=0 -s patch_weight=0.003
#     steps lambda classifier patch change
legs="3274  0.005  0.008      0.003 0
      4341  0.002  0.003      0.006 0
      4974  0.002  0.0007     0.003 0
      5711  0.002  0          0.003 0
      7228  0.002  0.001      0     0.05
      7742  0.002  0.0015     0     0.03
      11200 0.004  0.0007     0     0.01"
while read -r steps lambda classifier patch change; do
    decay=0; if [ "$steps" = 11200 ]; then decay=2200; fi
    fader train --out "$run" --resume -s "steps=$steps" -s "decay_steps=$decay" \
        -s "lambda_max=$lambda" -s "classifier_weight=$classifier" \
        -s "patch_weight=$patch" -s "change_weight=$change"
done <<< "$legs"

python "$(dirname "$0")/package_model.py" "$runs/default/model" fader/weights/default \
    --data "Labeled Faces in the Wild (deep-funneled), attributes annotated by a network"
