#!/bin/sh
# Wait until the export job ends. Exit status: 0 if it completed, 1 if it failed, 2 if kubectl failed.
# `kubectl wait` waits for one condition only, so it would wait for its whole timeout on a failed job. The job's own
# activeDeadlineSeconds bounds the loop. Meanwhile this prints why the job's pod does not start: no node has a free GPU, or
# the image cannot be pulled. The job does not fail for that, because the reason may go away.
set -u
name=perception-encoder-export
job=job/$name
before=
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
    waits=$(kubectl --namespace perception-encoder get pods --selector "job-name=$name" --output \
        'jsonpath={.items[*].status.conditions[?(@.reason=="Unschedulable")].message}{.items[*].status.containerStatuses[*].state.waiting.message}')
    if [ -n "$waits" ] && [ "$waits" != "$before" ]; then echo "$job waits: $waits"; fi
    before=$waits
    sleep 5
done
