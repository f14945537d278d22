package manifests

// MaxRestartPeriod is the annotation of a Pod that bounds the wait between restarts of its containers: a duration from 1s
// to 300s, such as 30s, in place of the agent's crashLoopBackOff.maxContainerRestartPeriod.
const MaxRestartPeriod = "podkeeper/max-restart-period"
