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
    fader train-classifier --data "$runs/store-128" --out "$runs/guide" --identities even --steps 1800
fi

# Edits of all the first runs were of the whole picture.
confined=false

# Five stretches of one run, as the packaged weights came about: the terms on changed decodings were
# weaker at first. (The code moved on the way; docs/model-card.md says how.)
former=(-s longest_move=1 -s unconvinced_weight=0)
stretch() { # NAME OPTIONS: go on with the run until the stretch is done, once
    test -e "$runs/default.$1" && return
    fader train --resume --out "$runs/default" "${@:2}"
    touch "$runs/default.$1"
}
ten=Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Gray_Hair,Blond_Hair,High_Cheekbones,Bags_Under_Eyes
fresh=(-s image_discriminator=fresh -s image_learning_rate=3 -s gradient_penalty=0.01
    -s structure_weight=0.03)
stretch first --attrs "$ten,Attractive" --data "$runs/store-128" --classifier "$runs/guide/model" \
    "${fresh[@]}" "${former[@]}" -s model.regions=$confined -s steps=2276 \
    -s decay_steps=0 -s erase_steps=0 -s classifier_weight=0.002 \
    -s recognition_weight=0.005 -s patch_weight=0.015 -s gradient_penalty=0.02 -s change_weight=0.02
stretch second -s steps=3624 -s classifier_weight=0.006 -s recognition_weight=0.015
stretch third -s steps=6384 -s erase_steps=384 -s classifier_weight=0.004 -s patch_weight=0.02 \
    -s gradient_penalty=0.01 -s change_weight=0.03
stretch fourth -s steps=11000 -s decay_steps=3500 -s erase_steps=5000 -s patch_weight=0.06
stretch fifth -s steps=14000 -s decay_steps=3000 -s erase_steps=8000 -s learning_rate=3e-4 \
    -s shuffled_fraction=0.25

# Then the decoder alone, from a code erased in full precision: a second run from the first one's
# model, a third without Attractive, and a fourth whose image discriminator is the guide's copy.
further() { # NAME FROM STEPS OPTIONS
    test -e "$runs/$1.done" && return
    if test -e "$runs/$1/config.json"; then
        fader train --resume --out "$runs/$1"
    else
        fader train --init "$runs/$2/model" --out "$runs/$1" --data "$runs/store-128" \
            --classifier "$runs/guide/model" -s pretrain_steps=0 -s ramp_steps=0 -s steps="$3" \
            -s erase_steps="$3" -s shuffled_fraction=0.25 -s model.regions=$confined \
            "${former[@]}" "${@:4}"
    fi
    touch "$runs/$1.done"
}
further erased default 1089 --attrs "$ten,Attractive" "${fresh[@]}" -s decay_steps=0 -s patch_weight=0.06 \
    -s structure_weight=0.05 -s classifier_weight=0.005 -s recognition_weight=0.02 -s change_weight=0.025
further ten erased 1058 --attrs "$ten" "${fresh[@]}" -s decay_steps=0 -s patch_weight=0.06 \
    -s structure_weight=0.05 -s classifier_weight=0.004 -s recognition_weight=0.015 -s change_weight=0.08
further drawn ten 803 --attrs "$ten" -s decay_steps=0 -s learning_rate=3e-4 -s image_learning_rate=1 \
    -s gradient_penalty=0.003 -s structure_weight=0.06 -s patch_weight=0.08 -s classifier_weight=0.005 \
    -s recognition_weight=0.02 -s change_weight=0.05

# A run with Bald in the place of Bags_Under_Eyes, asked for more on its way.
further placed drawn 607 --attrs "${ten/Bags_Under_Eyes/Bald}" -s decay_steps=0 -s learning_rate=3e-4 \
    -s image_learning_rate=3 -s structure_weight=0.13 -s patch_weight=0.06 -s classifier_weight=0.005 \
    -s recognition_weight=0.02 -s change_weight=0.08
more() { # NAME STEPS OPTIONS: go on with such a run, its code erased from the start, once
    test -e "$runs/$1.$2" && return
    fader train --resume --out "$runs/$1" -s steps="$2" -s erase_steps="$2" "${@:3}"
    touch "$runs/$1.$2"
}
more placed 931 -s structure_weight=0.25 -s patch_weight=0.09 -s image_learning_rate=2
more placed 1366 -s structure_weight=0.35 -s recognition_weight=0.035 -s classifier_weight=0.008 \
    -s change_weight=0.06
more placed 2350 -s decay_steps=1150 -s structure_weight=0.7
tools=$(dirname "$0")
python "$tools/average_models.py" "$runs/drawn/model" "$runs/placed/model" "$runs/average/model" \
    --weight 0.6 --store "$runs/store-128"

# Once more, with the present erasure, which takes less from the code than the one all of the above
# had; first with new discriminators, then with those of the run before.
with_bald=${ten/Bags_Under_Eyes/Bald}
further lighter average 306 --attrs "$with_bald" -s decay_steps=0 -s learning_rate=3e-4 \
    -s structure_weight=0.7 -s patch_weight=0.09 -s recognition_weight=0.035 -s classifier_weight=0.008 \
    -s change_weight=0.06
further final lighter 298 --attrs "$with_bald" --init-discriminators "$runs/placed" \
    -s decay_steps=0 -s learning_rate=3e-4 -s shuffled_fraction=0.35 -s structure_weight=0.5 \
    -s patch_weight=0.12 -s recognition_weight=0.028 -s classifier_weight=0.006 -s change_weight=0.06
more final 566 -s structure_weight=0.6 -s recognition_weight=0.038 -s classifier_weight=0.009
more final 950 -s recognition_weight=0.046 -s classifier_weight=0.011 \
    -s change_weight=0.042
more final 1497 -s decay_steps=547 -s recognition_weight=0.055 -s classifier_weight=0.0135 \
    -s change_weight=0.036
python "$tools/average_models.py" "$runs/lighter/model" "$runs/final/model" "$runs/final-average/model" \
    --weight 0.65 --store "$runs/store-128"

# Edits confined to where their attributes are, and asked for more for it. (At first hair began higher on
# the forehead, and making someone older left the eyes, too.)
confined=true
further confined final-average 340 --attrs "$with_bald" --init-discriminators "$runs/final" \
    -s decay_steps=0 -s learning_rate=3e-4 -s shuffled_fraction=0.35 -s structure_weight=0.7 \
    -s patch_weight=0.16 -s recognition_weight=0.055 -s classifier_weight=0.0135 -s change_weight=0.036
more confined 750 -s recognition_weight=0.085 -s classifier_weight=0.02 -s change_weight=0.025
more confined 1020 -s recognition_weight=0.1 -s classifier_weight=0.025 -s change_weight=0.012 \
    -s patch_weight=0.2 -s structure_weight=0.8
python "$tools/average_models.py" "$runs/final-average/model" "$runs/confined/model" \
    "$runs/confined-average/model" --weight 0.5 --store "$runs/store-128"

# Further against an image discriminator that learns what decodings paint, then also at the lengths that
# sliders give to moves. (Its start was that of 830 steps more of the run before.)
further longer confined-average 610 --attrs "$with_bald" --init-discriminators "$runs/confined" \
    -s decay_steps=0 -s learning_rate=3e-4 -s shuffled_fraction=0.35 -s structure_weight=0.85 \
    -s patch_weight=0.16 -s recognition_weight=0.1 -s classifier_weight=0.015 -s change_weight=0.02 \
    -s unconvinced_weight=3
more longer 965 -s longest_move=1.6 -s unconvinced_weight=2 -s patch_weight=0.25 \
    -s recognition_weight=0.15 -s classifier_weight=0.02 -s change_weight=0.024
more longer 1206 -s unconvinced_weight=1.5 -s patch_weight=0.22 -s recognition_weight=0.28 \
    -s classifier_weight=0.04 -s change_weight=0.012 -s structure_weight=1
keep() { # RUN STEP: its model as it is now
    test -e "$runs/$1-$2" && return
    cp -r "$runs/$1/model" "$runs/$1-$2.part" && mv "$runs/$1-$2.part" "$runs/$1-$2"
}
keep longer 1206
python "$tools/average_models.py" "$runs/final-average/model" "$runs/longer-1206" \
    "$runs/longer-average/model" --weight 0.36 --store "$runs/store-128"

# Decoded in copies a decoder can reconstruct less well, and draw more. The longer run's last steps, averaged
# with its 1,206th and an older model, go on with stronger terms.
more longer 1900
python "$tools/average_models.py" "$runs/longer-1206" "$runs/longer/model" "$runs/longer-both/model" \
    --weight 0.5 --store "$runs/store-128"
python "$tools/average_models.py" "$runs/final-average/model" "$runs/longer-both/model" \
    "$runs/longer-start/model" --weight 0.7 --store "$runs/store-128"
further copies longer-start 382 --attrs "$with_bald" --init-discriminators "$runs/longer" \
    -s decay_steps=0 -s learning_rate=3e-4 -s shuffled_fraction=0.35 -s structure_weight=0.6 \
    -s patch_weight=0.35 -s recognition_weight=0.3 -s classifier_weight=0.04 -s change_weight=0.022 \
    -s unconvinced_weight=2 -s longest_move=1.8
more copies 577 -s unconvinced_weight=1 -s recognition_weight=0.6 -s classifier_weight=0.1 \
    -s change_weight=0.008 -s structure_weight=0.8
more copies 1000 -s decay_steps=430
python "$tools/average_models.py" "$runs/longer-average/model" "$runs/copies/model" \
    "$runs/copies-average/model" --weight 0.4 --store "$runs/store-128"

# Younger skin, raised cheekbones and men made women hardly darken any more, nor take on much colour
# (regions.py). What decoders had painted there, this one has to draw otherwise. (Less of it was let
# through at the time, docs/design.md says how much.)
further lit copies-average 534 --attrs "$with_bald" --init-discriminators "$runs/copies" \
    -s decay_steps=0 -s learning_rate=3e-4 -s shuffled_fraction=0.35 -s structure_weight=0.75 \
    -s patch_weight=0.4 -s recognition_weight=0.6 -s classifier_weight=0.1 -s change_weight=0.01 \
    -s unconvinced_weight=1 -s longest_move=2
more lit 1015 -s longest_move=2.5 -s recognition_weight=0.8 -s classifier_weight=0.16 \
    -s change_weight=0.006 -s structure_weight=0.8
more lit 1750 -s decay_steps=620 -s structure_weight=1
python "$tools/average_models.py" "$runs/copies-average/model" "$runs/lit/model" \
    "$runs/lit-average/model" --weight 0.25 --store "$runs/store-128"

# The least real place decides, and what is looked at is the mean of two copies (the image discriminator
# used to be asked of every place, and of one copy). First the discriminators alone, nearly, then all.
judged=(-s batch_size=16 -s changed_fraction=1 -s copies=2 -s shuffled_fraction=0.3 -s longest_move=2)
further judged lit-average 350 --attrs "$with_bald" "${judged[@]}" -s decay_steps=0 -s learning_rate=2e-6 \
    -s image_learning_rate=300 -s structure_weight=0.8 -s patch_weight=0.3 -s recognition_weight=0.4 \
    -s classifier_weight=0.06 -s change_weight=0.01 -s unconvinced_weight=1
more judged 1260 -s learning_rate=3e-4 -s image_learning_rate=2
keep judged 1260
more judged 1690 -s structure_weight=0.9 -s recognition_weight=0.5 -s classifier_weight=0.1
keep judged 1690
# Stronger terms, against which the discriminator won (edits fainter, decodings softer); the later run
# starts from the models before, and against this discriminator.
more judged 2780 -s patch_weight=0.4 -s structure_weight=1.1 -s recognition_weight=0.8 -s classifier_weight=0.2
python "$tools/average_models.py" "$runs/judged-1260" "$runs/judged-1690" "$runs/judged-average/model" \
    --weight 0.5 --store "$runs/store-128"
further calmer judged-average 773 --attrs "$with_bald" --init-discriminators "$runs/judged" "${judged[@]}" \
    -s decay_steps=0 -s learning_rate=2e-4 -s image_learning_rate=1.5 -s gradient_penalty=0.003 \
    -s structure_weight=1 -s patch_weight=0.22 -s recognition_weight=0.7 -s classifier_weight=0.2 \
    -s change_weight=0.008 -s unconvinced_weight=0.5
more calmer 1180 -s recognition_weight=0.9 -s classifier_weight=0.28
more calmer 2250 -s decay_steps=750 -s recognition_weight=1.1 -s classifier_weight=0.36
python "$tools/average_models.py" "$runs/judged-average/model" "$runs/calmer/model" \
    "$runs/calmer-average/model" --weight 0.5 --store "$runs/store-128"

# Hair, age and sex within the person's outline (its network is in the package, tools/train_silhouette.py
# trained it), foreheads and bald heads spared, flips by the root of rarity. (At first more was taken
# for a forehead, and gray hair kept all of its colour.)
further outlined calmer-average 945 --attrs "$with_bald" --init-discriminators "$runs/calmer" "${judged[@]}" \
    -s longest_move=2.5 -s decay_steps=0 -s learning_rate=2e-4 -s image_learning_rate=1.5 \
    -s gradient_penalty=0.003 -s structure_weight=1 -s patch_weight=0.22 -s recognition_weight=1 \
    -s classifier_weight=0.32 -s change_weight=0.008 -s unconvinced_weight=0.5
more outlined 1590 -s recognition_weight=1.15 -s classifier_weight=0.38
keep outlined 1590
more outlined 2900 -s decay_steps=1000 -s structure_weight=1.4 -s image_learning_rate=2.2 -s patch_weight=0.25 \
    -s recognition_weight=0.85 -s classifier_weight=0.26
python "$tools/average_models.py" "$runs/outlined-1590" "$runs/outlined/model" \
    "$runs/outlined-both/model" --weight 0.5 --store "$runs/store-128"
python "$tools/average_models.py" "$runs/calmer-average/model" "$runs/outlined-both/model" \
    "$runs/outlined-average/model" --weight 0.8 --store "$runs/store-128"

# Hair that only gets another colour keeps its strands, blond tints little skin, and mouths stay mostly as
# they are when faces get younger; outlines at 128 pixels.
terms=(-s longest_move=2.5 -s decay_steps=600 -s learning_rate=2.5e-4 -s image_learning_rate=2
    -s gradient_penalty=0.003 -s structure_weight=1.4 -s patch_weight=0.25 -s recognition_weight=1
    -s classifier_weight=0.34 -s change_weight=0.008 -s unconvinced_weight=0.5)
further strands outlined-average 1350 --attrs "$with_bald" --init-discriminators "$runs/outlined" "${judged[@]}" \
    "${terms[@]}" -s learning_rate=2e-4
python "$tools/average_models.py" "$runs/outlined-average/model" "$runs/strands/model" \
    "$runs/strands-average/model" --weight 0.6 --store "$runs/store-128"

# Hair of its own: outlines that tell hair, evenly dyed within it. (The window of tints was twice as wide.)
further dyed strands-average 1500 --attrs "$with_bald" --init-discriminators "$runs/strands" "${judged[@]}" \
    "${terms[@]}"
python "$tools/average_models.py" "$runs/strands-average/model" "$runs/dyed/model" \
    "$runs/dyed-average/model" --weight 0.25 --store "$runs/store-128"

# Skin and hair that keep their hue, men with eyes of their own.
further hued dyed-average 1400 --attrs "$with_bald" --init-discriminators "$runs/dyed" "${judged[@]}" \
    "${terms[@]}" -s patch_weight=0.28
python "$tools/average_models.py" "$runs/dyed-average/model" "$runs/hued/model" \
    "$runs/hued-average/model" --weight 0.2 --store "$runs/store-128"
python "$tools/package_model.py" "$runs/hued-average/model" fader/weights/default \
    --store "$runs/store-128" \
    --data "Labeled Faces in the Wild (deep-funneled), attributes annotated by a network"
