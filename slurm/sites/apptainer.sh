# Site with Apptainer: set PERFBENCH_IMAGE to an image that has the packages of constraints.txt.
module load apptainer 2> /dev/null || true
: "${PERFBENCH_IMAGE:?set PERFBENCH_IMAGE to the image to run ranks in}"
