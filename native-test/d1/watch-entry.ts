/** Loaded into `serve` before it starts: watches its event loop, and says at each SIGUSR2 what it saw since the last. */
import { StallWatch, showStalls } from '../stalls.js'

const watch = new StallWatch()
watch.start()
process.on('SIGUSR2', () => {
  console.error(`stalls: ${showStalls(watch.stop())}`)
  watch.start()
})
