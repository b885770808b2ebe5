#!/bin/sh
# Wait until the export job ends. Exit status: 0 if it completed, 1 if it failed, 2 if kubectl failed.
# `kubectl wait` waits for one condition only, so it would wait for its whole timeout on a failed job. The job's own
# activeDeadlineSeconds bounds the loop.
set -u
job=job/perception-encoder-export
while :; do
    # `kubectl` prints the conditions that hold, for example "SuccessCriteriaMet Complete".
    conditions=$(kubectl --namespace perception-encoder get "$job" \
        --output 'jsonpath={.status.conditions[?(@.status=="True")].type}') || exit 2
    case " $conditions " in
        *' Complete '*) echo "$job completed"; exit 0 ;;
        *' Failed '*)
            echo "$job failed. The end of its log:" >&2
            kubectl --namespace perception-encoder logs "$job" --tail=20 >&2
            exit 1
            ;;
    esac
    sleep 5
done
