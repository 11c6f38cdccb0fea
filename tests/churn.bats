#!/usr/bin/env bats
# Copies that come and go under load.  SEED repeats what is chosen; STRESS makes it a long run.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    seed=${SEED:-1}
    echo "# $BATS_TEST_DESCRIPTION: SEED=$seed" >&3
}

teardown() {
    common_teardown
}

# told: whether churn has said who survives, or has ended without.
told() {
    grep --quiet '^survivors ' churn.log || ended "$pid"
}

@test "copies that are killed at random under load lose the connections that they held, and no other" {
    local kills count
    kills=$(times 40 1000) count=$(times 40 200)
    LD_PRELOAD=$shim start churn nice "$programs/churn" "$seed" "$kills" "$count" 8000 \
        "$programs/http-server" 8000
    until told; do
        sleep 0.1
    done
    tail -n 2 churn.log | sed 's/^/# /' >&3
    [[ $(<churn.log) =~ ^started\ ([0-9]+),\ killed\ ([0-9]+),\ requests\ ([0-9]+),\ failed\ ([0-9]+),\ held\ ([0-9]+)\ to\ ([0-9]+) ]]
    killed=${BASH_REMATCH[2]} requests=${BASH_REMATCH[3]} failed=${BASH_REMATCH[4]}
    ((killed >= kills && requests > 200 && BASH_REMATCH[5] > 0))
    ((BASH_REMATCH[5] <= failed && failed <= BASH_REMATCH[6]))

    # The group is what is left, and every member of it answers.
    survivors=$(sed -n 's/^survivors //p' churn.log | tr ' ' '\n' | sort)
    members=$("$build/reuse-group" --tsv 8000 | awk -F '\t' 'NR > 1 && $7 == "yes" { print $5 }' | sort)
    [[ $members == "$survivors" ]]
    kill "$pid"
    eventually listening 0 8000
    run -1 pgrep --exact http-server
    run -1 "$build/reuse-group" 8000
}
