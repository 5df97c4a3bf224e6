# Compute nodes without internet: nothing may try to reach it while a clock runs.
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
